//! The parts of the controller and of the planner that speak to HAProxy, against the real ones; fake-haproxy beside them.

mod fake;
mod lines;
mod plan_pairs;
mod policy;
mod reload;
mod routes;
mod runtime;

mod follow;
mod random_lines;
mod random_routes;
