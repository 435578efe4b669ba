//! `make demo`: web servers join and leave a real Serf cluster on loopback, a real HAProxy follows.
//!
//! Balancer (agent, controller, HAProxy) on 127.0.0.42, web servers `s1`… each with an agent on
//! 127.0.0.101…, clients on the front end. Ends by itself with the figures and leaves nothing behind;
//! `--keep` leaves everything up until ^C.

mod script;
mod stage;
mod view;

use std::process::ExitCode;

use anyhow::Result;
use integration::log_tails;
use tokio::signal::unix::{SignalKind, signal};

use stage::Stage;
use view::View;

const USAGE: &str = "usage: demo [--keep]";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let keep = match (args.next().as_deref(), args.next()) {
        (None, _) => false,
        (Some("--keep"), None) => true,
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    match runtime.block_on(demo(keep)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays until the end, or until ^C, which ends it as cleanly.
async fn demo(keep: bool) -> Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    stage::check()?;
    let dir = tempfile::Builder::new()
        .prefix("serf-haproxy-demo-")
        .tempdir()?;
    let view = View::new();
    let play = async {
        let mut stage = Stage::set(dir.path(), &view).await?;
        let figures = script::play(&mut stage, &view).await?;
        view.end();
        figures.print();
        if keep {
            stage.print_where_to_look();
            std::future::pending::<()>().await;
        }
        Ok(figures)
    };
    let played = tokio::select! {
        played = play => Some(played),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    view.end();
    match played {
        Some(Ok(figures)) => Ok(if figures.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        Some(Err(error)) => {
            eprint!("{}", log_tails(dir.path()));
            Err(error)
        }
        None => {
            eprintln!("demo: ended early, everything is stopped");
            Ok(ExitCode::from(130))
        }
    }
}
