//! Laws over random routes and requests.

mod forms;
mod laws;
