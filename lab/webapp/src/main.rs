//! The web application of the container lab: it says who answers, how often this session has asked it, and is as slow
//! and as faulty as it is told to be. SIGTERM lets it finish the requests it has.

mod app;
mod session;

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    net::SocketAddr,
};

use anyhow::Context as _;
use clap::Parser;
use tokio::{net::TcpListener, signal::unix};

use app::App;

/// The web application of the container lab
#[derive(Debug, Parser)]
struct Args {
    /// Where it listens
    #[arg(long, default_value = "0.0.0.0:3000")]
    listen: SocketAddr,

    /// Tells apart versions of it
    #[arg(long, env = "WEBAPP_TAG", default_value = "")]
    tag: String,

    /// A file descriptor to write a newline to as soon as it listens, as s6 wants it
    #[arg(long, value_name = "NUMBER")]
    notification_fd: Option<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    let mut terminate = unix::signal(unix::SignalKind::terminate())?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    writeln!(io::stderr(), "listening on {}", args.listen)?;
    let app = App::new(host.trim().to_owned(), args.tag);
    if let Some(fd) = args.notification_fd {
        let path = format!("/proc/self/fd/{fd}");
        let opened = OpenOptions::new().write(true).open(&path);
        opened
            .and_then(|mut supervisor| supervisor.write_all(b"\n"))
            .with_context(|| format!("cannot tell the supervisor through {path}"))?;
    }
    let service = app
        .router()
        .into_make_service_with_connect_info::<app::Local>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}
