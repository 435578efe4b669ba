//! stub
use crate::config::Config;
use crate::haproxy::Stamp;
use crate::model::*;
use std::collections::BTreeMap;
/// x
pub const FIRST_LINE: &str = "# written by serf-haproxy; changes are overwritten";
/// x
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server { /// x
 pub name: ServerName, /// x
 pub addr: std::net::SocketAddr, /// x
 pub weight: Weight, /// x
 pub ready: bool }
/// x
pub type Servers = BTreeMap<BackendName, Vec<Server>>;
/// x
#[derive(Debug)]
pub struct Renderer;
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TemplateError;
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct RenderError;
/// x
#[derive(Debug)]
pub struct Rendered { /// x
 pub text: String, /// x
 pub blank: String, /// x
 pub stamp: Stamp }
impl Renderer {
/// x
pub fn load(_: &Config) -> Result<Self, TemplateError> { Ok(Self) }
/// x
pub fn render(&self, _: &Config, _: &Servers) -> Result<Rendered, RenderError> { Err(RenderError) }
}
