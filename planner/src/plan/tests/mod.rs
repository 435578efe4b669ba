mod agents;
mod joins;
mod laws;
mod model;
mod plans;
mod scopes;
mod texts;
