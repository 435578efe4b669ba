//! Turns the labels of a host's containers into tags of that host's Serf agent.
//!
//! One direction of data: events and lists of containers ([`docker`]) → what each container is ([`containers`]) and wants
//! ([`labels`]) → where its services are to be found, or why not ([`instances`]) → the tags that say so, within what a node
//! may have ([`tags`]) → the agent ([`agent`]). The first and the last do I/O, and [`run`] is the loop between them.

pub mod agent;
pub mod check;
pub mod config;
pub mod containers;
pub mod control;
pub mod docker;
pub mod instances;
pub mod labels;
pub mod pace;
pub mod run;
pub mod state;
pub mod status;
pub mod tags;
mod web;
