//! A command in, its exit code and the last of its output out: never longer than the deadline, nothing left behind.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// How much of the output is kept, its end.
pub(crate) const OUTPUT_KEPT: usize = 64 * 1024;

/// How long a process that outlives the command may hold its output open before it is read no further.
const AFTERMATH: Duration = Duration::from_millis(100);

/// A command that ended by itself.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed on stdout and stderr, in order, the last [`OUTPUT_KEPT`] bytes.
    pub output: String,
}

/// Why a command did not come to an end of its own.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// There are no words.
    #[error("the command is empty")]
    Empty,
    /// It could not be started; nothing ran.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ran longer than it may and was killed with all of its process group.
    #[error("{program} was killed after {} s", after.as_secs_f32())]
    Timeout {
        /// The program.
        program: String,
        /// The deadline.
        after: Duration,
        /// What it had printed.
        output: String,
    },
    /// Waiting for it failed; it was killed.
    #[error("cannot wait for {program}")]
    Wait {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
}

/// `exit code 1` or `signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// Runs a command, without a shell and without input, in a process group of its own.
///
/// # Errors
/// [`ProcessError`]; a command that ends with a code other than 0 is no error here.
///
/// # Cancel safety
/// When dropped, the process group is killed.
pub(crate) async fn run(command: &[String], deadline: Duration) -> Result<Finished, ProcessError> {
    run_in(command, None, deadline).await
}

/// The same in another working directory than ours.
///
/// # Errors
/// [`ProcessError`].
///
/// # Cancel safety
/// When dropped, the process group is killed.
pub(crate) async fn run_in(
    command: &[String],
    directory: Option<&Path>,
    deadline: Duration,
) -> Result<Finished, ProcessError> {
    let (program, arguments) = command.split_first().ok_or(ProcessError::Empty)?;
    let ends = Instant::now() + deadline;
    let (mut group, mut output) =
        start(program, arguments, directory).map_err(|source| ProcessError::Start {
            program: program.clone(),
            source,
        })?;
    let mut tail = Tail::default();
    let ended = OnceLock::new();
    let wait = async {
        let status = group.child.wait().await;
        let _ = ended.set(Instant::now());
        status
    };
    let waited = timeout_at(ends, async {
        tokio::join!(wait, tail.fill(&mut output, &ended)).0
    })
    .await;
    match waited {
        Ok(Ok(status)) => {
            group.ended = true;
            Ok(Finished {
                status,
                output: tail.text(),
            })
        }
        Ok(Err(source)) => Err(ProcessError::Wait {
            program: program.clone(),
            source,
        }),
        Err(_) => Err(ProcessError::Timeout {
            program: program.clone(),
            after: deadline,
            output: tail.text(),
        }),
    }
}

fn start(
    program: &str,
    arguments: &[String],
    directory: Option<&Path>,
) -> io::Result<(Group, pipe::Receiver)> {
    let (read, write) = io::pipe()?;
    let mut command = Command::new(program);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(write.try_clone()?)
        .stderr(write)
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn()?;
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    let group = Group {
        child,
        id,
        ended: false,
    };
    Ok((group, pipe::Receiver::from_owned_fd(read.into())?))
}

/// A process group that is killed when dropped before its leader has ended.
struct Group {
    child: Child,
    id: Option<Pid>,
    ended: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let (false, Some(id)) = (self.ended, self.id) {
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

/// The end of an output.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Reads until the end, or for [`AFTERMATH`] after the command ended; nothing read is lost when dropped.
    async fn fill(&mut self, output: &mut pipe::Receiver, ended: &OnceLock<Instant>) {
        let mut chunk = [0; 4096];
        while ended.get().is_none_or(|at| at.elapsed() < AFTERMATH) {
            match timeout(AFTERMATH, output.read(&mut chunk)).await {
                Ok(Ok(count @ 1..)) => self.bytes.extend(chunk.iter().take(count)),
                Ok(_) => break,
                Err(_) => {}
            }
            if self.bytes.len() > 2 * OUTPUT_KEPT {
                self.trim();
            }
        }
    }

    fn trim(&mut self) {
        let over = self.bytes.len().saturating_sub(OUTPUT_KEPT);
        self.bytes.drain(..over);
    }

    fn text(mut self) -> String {
        self.trim();
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Whether a process with this id runs, as far as can be seen from here, and is called `haproxy`.
pub(crate) fn is_haproxy(pid: u32) -> bool {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.is_ok_and(|name| name.trim_end() == "haproxy")
}

/// A master process of HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MasterProcess {
    /// Its process id.
    pub pid: u32,
    words: Vec<String>,
}

impl MasterProcess {
    /// Where it listens, by the words that it was started with (`-S /run/haproxy-master.sock,mode,660`); none where
    /// nowhere.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        let mut words = self.words.iter().skip_while(|word| *word != "-S");
        let place = words.nth(1)?.split(',').next()?;
        let path = place.strip_prefix("unix@").unwrap_or(place);
        path.starts_with('/').then(|| path.into())
    }
}

/// The master of a worker; none where it has none, or where that cannot be seen from here.
pub(crate) fn master_of(worker: u32) -> Option<MasterProcess> {
    if !is_haproxy(worker) {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let pid = rest.split(' ').nth(1)?.parse().ok()?;
    if !is_haproxy(pid) {
        return None;
    }
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = words.split(|byte| *byte == 0);
    Some(MasterProcess {
        pid,
        words: words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect(),
    })
}

/// Whether a worker has given up rights that its master has: root's, for a user of its own. Not where that cannot be seen
/// from here.
pub(crate) fn has_less_rights_than_its_master(worker: u32) -> bool {
    let is_root = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
        // The real and the effective one; a worker has both in common.
        Some(user.split_whitespace().nth(1)? == "0")
    };
    let master = master_of(worker).and_then(|master| is_root(master.pid));
    master == Some(true) && is_root(worker) == Some(false)
}

/// The working directory of a process, where we may know it.
pub(crate) fn directory_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether this names a program that can be run, by its path or in `PATH`.
pub(crate) fn is_program(name: &str) -> bool {
    use rustix::fs::{Access, access};
    let is_it = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        return is_it(Path::new(name));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| is_it(&folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn exit_code_and_output_of_both_streams_are_kept_in_order() {
        let finished = run(&shell("echo one; echo two >&2; echo three; exit 7"), LONG)
            .await
            .unwrap();
        assert_eq!(finished.output, "one\ntwo\nthree\n");
        assert_eq!(describe(finished.status), "exit code 7");
        let killed = run(&shell("kill -9 $$"), LONG).await.unwrap();
        assert_eq!(describe(killed.status), "signal 9");
    }

    #[tokio::test]
    async fn of_a_long_output_the_end_is_kept() {
        let finished = run(
            &shell("head -c 1000000 /dev/zero | tr '\\0' x; echo end"),
            LONG,
        )
        .await
        .unwrap();
        assert_eq!(finished.output.len(), OUTPUT_KEPT);
        assert!(finished.output.ends_with("xend\n"));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = run(&["/nonexistent/program".to_owned()], LONG)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot run /nonexistent/program");
        assert!(matches!(run(&[], LONG).await, Err(ProcessError::Empty)));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let started = std::time::Instant::now();
        let hanging = run(
            &shell("sleep 1000 & echo $!; wait"),
            Duration::from_millis(300),
        )
        .await;
        let Err(ProcessError::Timeout { output, .. }) = hanging else {
            panic!("{hanging:?}")
        };
        assert!(started.elapsed() < Duration::from_secs(5));
        let grandchild = Pid::from_raw(output.trim().parse().unwrap()).unwrap();
        while is_running(grandchild) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_command_that_leaves_a_daemon_behind_is_over_when_it_ends() {
        let finished = run(&shell("sleep 1000 & echo $!"), LONG).await.unwrap();
        assert!(finished.status.success());
        let daemon = Pid::from_raw(finished.output.trim().parse().unwrap()).unwrap();
        assert!(is_running(daemon));
        rustix::process::kill_process(daemon, Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_is_killed() {
        let mark = tempfile::NamedTempFile::new().unwrap();
        let command = shell(&format!("echo $$ > {}; sleep 1000", mark.path().display()));
        let read = async {
            loop {
                let text = std::fs::read_to_string(mark.path()).unwrap();
                if let Ok(pid) = text.trim().parse() {
                    break Pid::from_raw(pid).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let leader = tokio::select! {
            pid = read => pid,
            _ = run(&command, LONG) => panic!("it ended"),
        };
        while is_running(leader) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn the_socket_of_a_master_stands_behind_its_option() {
        let socket = |words: &[&str]| {
            let words = words.iter().map(ToString::to_string).collect();
            MasterProcess { pid: 1, words }.socket()
        };
        let started = ["haproxy", "-Ws", "-f", "a", "-S", "/run/m.sock,mode,660"];
        assert_eq!(socket(&started), Some("/run/m.sock".into()));
        assert_eq!(socket(&["haproxy", "-W"]), None);
        assert_eq!(socket(&["haproxy", "-W", "-S"]), None);
        assert_eq!(socket(&["haproxy", "-S", "ipv4@127.0.0.1:9"]), None);
        assert_eq!(master_of(std::process::id()), None);
    }

    #[test]
    fn a_program_is_found_by_its_path_or_in_the_folders_for_programs() {
        assert!(is_program("sh") && is_program("/bin/sh"));
        assert!(!is_program("/etc/passwd") && !is_program("no-such-program"));
    }

    /// Not gone, and no zombie either.
    fn is_running(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    }
}
