//! `check` called, and what it has said; a template to call it with.

use anyhow::Result;
use integration::controller::ControllerOptions;

/// A template whose section `global` is given.
pub(crate) fn template(global: &str) -> String {
    format!(
        "global\n    description \"serf-haproxy {{{{ stamp }}}}\"\n    hard-stop-after {{{{ hard_stop_after }}}}\n{global}\n\
         defaults\n    mode http\n    timeout connect 500ms\n    timeout client 10s\n    timeout server 10s\n\
         frontend main\n    bind {{{{ frontend.bind[0] }}}}\n    option idle-close-on-response\n    default_backend nodes\n\
         {{% include \"backends.cfg.j2\" %}}\n"
    )
}

pub(crate) const SOCKET: &str =
    "    stats socket {{ haproxy.stats_socket }} mode 600 level admin expose-fd listeners";

/// What `check` has said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// That it is wrong, and so.
    pub(crate) fn is_wrong(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.says(parts, false);
    }

    /// That it would work, and yet.
    pub(crate) fn warns(&self, parts: &[&str]) {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.says(parts, true);
    }

    /// One line with all of it.
    pub(crate) fn says(&self, parts: &[&str], warning: bool) {
        let mut lines = self.err.lines();
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(
            lines.any(|line| line.starts_with("warning: ") == warning && has_all(line)),
            "{parts:?} in {self:?}"
        );
    }
}

pub(crate) async fn check(options: &ControllerOptions, args: &[&str]) -> Result<Said> {
    let output = options.run("check", args).await?;
    Ok(Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}
