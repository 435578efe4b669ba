mod agents;
mod laws;
mod model;
mod plans;
mod scopes;
mod texts;
