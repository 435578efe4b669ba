//! The library and serfctl against Serf, real and not.

mod basics;
mod chaos_watcher;
mod commands;
mod expressions;
mod fake_agent;
mod faults;
mod faults_streams;
mod faults_watcher;
mod keys;
mod labels;
mod names;
mod queries;
mod serfctl;
mod serfctl_commands;
mod serfctl_live;
mod serfctl_members;
mod serfctl_shell;
mod serfctl_trouble;

mod watched;
