//! What holding and decoding a large reply costs in memory, the receive buffer included.

use anyhow::ensure;
use integration::fake_agent::{FakeAgent, nodes};
use integration::test;
use peak_alloc::PeakAlloc;
use serf_rpc::Client;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Members of the list.
const MEMBERS: u32 = 100_000;
/// Peak of live heap, times the bytes of the reply.
const MOST: usize = 3;

#[test]
fn a_list_of_100_000_members_takes_at_most_three_times_its_bytes() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "many", 1)
            .members(nodes(MEMBERS))
            .start()?;
        let client = Client::connect(agent.rpc_addr().to_string()).await?;
        // The agent's own bytes of the answer are made at the first call, and kept.
        drop(client.members().await?);
        let before = ALLOCATOR.current_usage();
        let reply = agent.answer_len();
        ALLOCATOR.reset_peak_usage();
        let members = client.members().await?;
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        let held = ALLOCATOR.current_usage().saturating_sub(before);
        let times = |bytes: usize| bytes as f64 / reply as f64;
        println!(
            "a reply of {reply} bytes: peak {:.2} times that, the result {:.2} times",
            times(peak),
            times(held)
        );
        ensure!(members.len() == MEMBERS as usize + 1, "some are missing");
        ensure!(peak <= MOST * reply, "peak of {peak} bytes");
        Ok(())
    });
}
