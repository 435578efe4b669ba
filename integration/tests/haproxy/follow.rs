//! A plan carried out on the real HAProxy.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use controller::haproxy::runtime::{RuntimeApi, State};
use planner::model::{Action, AddedOptions, WantedAdmins};
use planner::plan::{Draft, Input, Plan, draft};
use planner::syntax::ConfigText;

/// Applies plans until nothing is left to do at runtime.
pub(crate) async fn follow(
    api: &RuntimeApi,
    running: &ConfigText,
    wanted: &ConfigText,
) -> Result<Plan> {
    let admins = WantedAdmins::new();
    let mut added = AddedOptions::new();
    let mut accepts_add = BTreeMap::new();
    for _ in 0..8 {
        let State {
            worker, servers, ..
        } = api.read(true).await?;
        let input = Input {
            version: worker.version,
            running: Some(running),
            servers: &servers,
            added: &added,
            wanted,
            admins: &admins,
            accepts_add: &accepts_add,
            on_disk: Some(wanted),
            retired_max: 100,
        };
        let Draft { plan, unprobed, .. } = draft(&input);
        let unprobed: Vec<_> = unprobed.into_iter().collect();
        if !unprobed.is_empty() {
            let answers = api.accepts_add(&unprobed).await?;
            accepts_add.extend(answers);
            continue;
        }
        if plan.steps.is_empty() {
            return Ok(plan);
        }
        let done = api.execute(&worker, &plan.steps).await?;
        ensure!(done.refused.is_empty(), "{:?}", done.refused);
        for step in plan.steps {
            let key = step.key();
            match step.action {
                Action::Add { options, .. } => drop(added.insert(key, options)),
                Action::Delete => drop(added.remove(&key)),
                _ => {}
            }
        }
    }
    anyhow::bail!("the plan does not come to an end")
}
