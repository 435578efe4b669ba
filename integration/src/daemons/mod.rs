//! Real programs, each supervised, each on addresses of its own, none surviving the process that started it.

pub mod agent;
pub mod browser;
pub mod certificate;
pub mod compose;
pub mod container;
pub mod controller;
pub mod dockerd;
pub mod haproxy;
pub mod health_agent;
pub mod machines;
pub mod manners;
pub mod packages;
pub mod prometheus;
pub mod serf;
pub mod serf_docker;
pub mod view;
pub mod web;
