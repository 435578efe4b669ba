//! Harness with real Serf agents and HAProxy.
