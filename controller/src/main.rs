//! tmp
fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let cmd = args.next().unwrap_or_default();
    let mut path = None; let mut adopt=false;
    while let Some(a) = args.next() { if a == "-c" { path = args.next(); } else if a=="--adopt" {adopt=true} }
    let path = std::path::PathBuf::from(path.unwrap());
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or("info".into())).init();
    let config = controller::config::Config::load(&path, std::env::vars())?;
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    rt.block_on(async {
        if cmd == "run" {
            controller::reconcile::run(config, controller::reconcile::RunOptions { config_path: path, env: vec![], adopt }).await?;
        } else {
            match controller::control::ask(&config.control.socket, controller::control::Request::Status).await? {
                controller::control::Answer::Status(s) => { use std::io::Write; if std::env::args().any(|a| a=="json") { serde_json::to_writer_pretty(std::io::stdout(), &*s)?; } else { write!(std::io::stdout(), "{s}")?; } }
                _ => {}
            }
        }
        Ok(())
    })
}
