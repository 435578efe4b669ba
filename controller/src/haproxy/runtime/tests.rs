//! What the real HAProxy does too rarely to wait for, from a socket that follows a script.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use super::*;

const PROMPT: &str = "\n> ";
const HEADER: &str = "1\n# be_name srv_name srv_addr srv_admin_state srv_uweight srv_port\n";

/// One connection: what is waited for and what is said then; closed afterwards.
type Script = Vec<(&'static str, String)>;

struct Fake {
    api: RuntimeApi,
    task: JoinHandle<()>,
    _directory: TempDir,
}

impl Fake {
    fn new(scripts: Vec<Script>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            for script in scripts {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut heard = String::new();
                for (cue, says) in script {
                    while !heard.contains(cue) {
                        let mut chunk = [0; 1024];
                        let count = stream.read(&mut chunk).await.unwrap();
                        assert!(count > 0, "{cue:?} was never said, only {heard:?}");
                        heard += std::str::from_utf8(&chunk[..count]).unwrap();
                    }
                    let _ = stream.write_all(says.as_bytes()).await;
                }
            }
        });
        Self {
            api: RuntimeApi::new(socket),
            task,
            _directory: directory,
        }
    }
}

fn info(pid: u32) -> String {
    format!("Version: 3.0.11\nPid: {pid}\nUptime_sec: 7\n\n")
}

fn worker(pid: u32) -> Worker {
    reply::info(&info(pid)).unwrap()
}

fn maint() -> [Step; 1] {
    let backend = BackendName::new("b").unwrap();
    [Step {
        backend,
        server: ServerName::new("s").unwrap(),
        action: Action::Maint,
    }]
}

/// A connection on which one step is done and read back.
fn done(pid: u32, server: &str) -> Script {
    vec![
        ("show info\n", format!("{PROMPT}{}{PROMPT}", info(pid))),
        ("state maint\n", PROMPT.to_owned()),
        (
            "show servers state b\n",
            format!("{HEADER}{server}\n{PROMPT}"),
        ),
        ("quit\n", String::new()),
    ]
}

/// The prompt of a master; its first one has no line end before it.
const MASTER: &str = "master> ";

/// What a master says of its worker.
fn by_master(pid: u32) -> Vec<Script> {
    let heard = vec![
        ("@1 show info\n", format!("{MASTER}{}{MASTER}", info(pid))),
        ("@1 set server b/s state maint\n", format!("\n{MASTER}")),
        (
            "@1 show servers state b\n",
            format!("{HEADER}b s 10.0.0.1 1 1 80\n\n{MASTER}"),
        ),
        ("quit\n", MASTER.to_owned()),
    ];
    vec![heard, vec![("@1 show info;quit\n", info(pid))]]
}

#[tokio::test]
async fn steps_go_by_the_master_where_the_stats_socket_is_gone() {
    let fake = Fake::new(by_master(8));
    let master = fake.api.socket().to_owned();
    let api = RuntimeApi::new(master.with_extension("gone")).master(Some(master));
    let executed = api.execute(&worker(8), &maint()).await.unwrap();
    assert_eq!(executed.refused, []);
    assert_eq!(
        executed.servers["b"]["s"].admin,
        planner::model::Admin::Maint
    );
    let said = api.detour().unwrap().to_string();
    assert!(said.contains("s.gone: No such file"), "{said}");
    fake.task.await.unwrap();
}

#[tokio::test]
async fn a_silent_stats_socket_is_waited_for_once() {
    let fake = Fake::new(vec![vec![("@1 show info;quit\n", info(8))]; 3]);
    let master = fake.api.socket().to_owned();
    let silent = master.with_extension("silent");
    let _listener = UnixListener::bind(&silent).unwrap();
    let api = RuntimeApi::new(silent).master(Some(master));
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(api.worker().await.unwrap(), worker(8));
    }
    let elapsed = started.elapsed();
    assert!(
        FIRST_BYTE.0 <= elapsed && elapsed < FIRST_BYTE.0 * 3,
        "{elapsed:?}"
    );
    assert!(api.detour().is_some());
    fake.task.await.unwrap();
}

#[tokio::test]
async fn both_sockets_are_named_when_neither_answers() {
    let directory = tempfile::tempdir().unwrap();
    let gone = directory.path().join("stats");
    let silent = directory.path().join("master");
    let _listener = UnixListener::bind(&silent).unwrap();
    let api = RuntimeApi::new(&gone).master(Some(silent));
    let error = api.worker().await.unwrap_err().to_string();
    assert!(
        error.contains("/stats: No such file or directory (os error 2), nor"),
        "{error}"
    );
    assert!(error.contains("/master within 1 s"), "{error}");
    let error = api.worker().await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Connect { .. }),
        "the master is left alone: {error}"
    );
}

#[tokio::test]
async fn steps_are_done_read_back_and_compared_on_another_connection() {
    let fake = Fake::new(vec![
        done(8, "b s 10.0.0.1 1 1 80\n"),
        vec![("show info\n", info(8))],
    ]);
    let executed = fake.api.execute(&worker(8), &maint()).await.unwrap();
    assert_eq!(executed.worker, worker(8));
    assert_eq!(
        executed.servers["b"]["s"].admin,
        planner::model::Admin::Maint
    );
    assert_eq!(executed.refused, []);
    fake.task.await.unwrap();
}

#[tokio::test]
async fn a_worker_that_is_replaced_while_it_executes_is_noticed() {
    let fake = Fake::new(vec![done(8, ""), vec![("show info\n", info(9))]]);
    let error = fake.api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(error.worker_changed());
    let shown = "haproxy was reloaded or restarted: worker 9 of HAProxy 3.0, up 7 s, no stamp of ours \
                 instead of worker 8 of HAProxy 3.0, up 7 s, no stamp of ours";
    assert_eq!(error.to_string(), shown);
}

#[tokio::test]
async fn a_reply_too_many_is_an_error() {
    let mut script = done(8, "");
    script[1].1 = PROMPT.repeat(2);
    let fake = Fake::new(vec![script, vec![("show info\n", info(8))]]);
    let error = fake.api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Reply(_) | RuntimeError::Pairing { .. }),
        "{error}"
    );

    let mut script = done(8, "");
    script[3].1 = "surprise".to_owned();
    let fake = Fake::new(vec![script]);
    let error = fake.api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(matches!(error, RuntimeError::Pairing { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_that_ends_early_is_an_error() {
    let mut script = done(8, "");
    script.truncate(2);
    let fake = Fake::new(vec![script]);
    let error = fake.api.execute(&worker(8), &maint()).await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Closed { .. } | RuntimeError::Io { .. }),
        "{error}"
    );

    let fake = Fake::new(vec![vec![("show info\n", "Version: 3.0.11\n".to_owned())]]);
    let error = fake.api.worker().await.unwrap_err();
    assert!(
        matches!(error, RuntimeError::Reply(ReplyError::Truncated { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_haproxy_that_does_not_answer_is_given_up_in_time() {
    let silent = || Fake::new(vec![vec![("never said", String::new())]]);
    let short = Duration::from_millis(50);
    let fake = silent();
    let error = fake
        .api
        .clone()
        .timeout(short)
        .read(true)
        .await
        .unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    let fake = silent();
    let error = fake
        .api
        .clone()
        .timeout(short)
        .execute(&worker(8), &maint())
        .await
        .unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_reply_without_end_is_cut_at_the_limit() {
    let fake = Fake::new(vec![
        vec![("show info", "x".repeat(100_000))],
        vec![("show info", "x".repeat(100_000))],
    ]);
    let api = fake.api.clone().reply_limit(50_000);
    assert!(matches!(
        api.read(false).await,
        Err(RuntimeError::TooLarge { limit: 50_000 })
    ));
    assert!(matches!(
        api.execute(&worker(8), &maint()).await,
        Err(RuntimeError::TooLarge { .. })
    ));
}

#[tokio::test]
async fn a_server_whose_new_address_does_not_come_gets_no_later_step() {
    let [step] = maint();
    let address = Step {
        action: Action::Address("10.0.0.2:80".parse().unwrap()),
        ..step.clone()
    };
    let ready = Step {
        action: Action::Ready { check: false },
        ..step.clone()
    };
    let other = Step {
        server: ServerName::new("t").unwrap(),
        ..ready.clone()
    };
    let fake = Fake::new(vec![
        vec![
            ("show info\n", format!("{PROMPT}{}{PROMPT}", info(8))),
            (
                "addr 10.0.0.2 port 80\n",
                format!("Invalid addr '10.0.0.2'\n{PROMPT}"),
            ),
            ("server b/t state ready\n", PROMPT.to_owned()),
            ("show servers state b\n", format!("{HEADER}\n{PROMPT}")),
            ("quit\n", String::new()),
        ],
        vec![("show info\n", info(8))],
    ]);
    let steps = [address.clone(), ready.clone(), other];
    let executed = fake.api.execute(&worker(8), &steps).await.unwrap();
    let invalid = Refusal::Other("Invalid addr '10.0.0.2'".into());
    assert_eq!(
        executed.refused,
        [(address, invalid), (ready, Refusal::AddressUnsettled)]
    );
    fake.task.await.unwrap();
}
