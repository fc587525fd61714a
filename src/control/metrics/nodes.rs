//! What is shown of nodes, and of the chain that they have.

use std::fmt;

use super::Page;
use crate::control::sheet::Sheet;
use crate::ledger::monotonic_ns;

const NS_PER_S: u64 = 1_000_000_000;

impl Page {
    pub(super) fn nodes(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let nodes = &self.telemetry.nodes;
        sheet.gauge_a_node("millrace_node_up", "1 while the node is well", nodes, |node| {
            node.up.value()
        })?;
        sheet.gauge_a_node("millrace_node_height", "Height of the node's tip", nodes, |node| {
            node.height.value()
        })?;
        sheet.counter_a_node(
            "millrace_node_failures",
            "Looks at the node that found it not well",
            nodes,
            |node| node.failures.value(),
        )?;
        sheet.gauge_a_node(
            "millrace_node_has_tip",
            "1 while the node is well and has the tip that is followed",
            nodes,
            |node| node.has_tip.value(),
        )?;
        sheet.gauge_a_node(
            "millrace_node_has_rival",
            "1 while the node is well and has another tip of as much work as the one that is followed",
            nodes,
            |node| node.has_rival.value(),
        )?;
        sheet.gauge_a_node(
            "millrace_node_in_use",
            "1 for the node that is asked about that tip",
            nodes,
            |node| node.in_use.value(),
        )?;
        sheet.gauge_a_node(
            "millrace_node_zmq_publishers",
            "ZMQ publishers of the node in the configuration",
            nodes,
            |node| node.zmq.publishers.value(),
        )?;
        sheet.gauge_a_node(
            "millrace_node_zmq_connected",
            "Those of them that are connected",
            nodes,
            |node| node.zmq.connected.value(),
        )?;
        sheet.table_a_node(
            "millrace_node_zmq_messages",
            "Messages that they published, by topic",
            "topic",
            nodes,
            |node| &node.zmq.messages,
        )?;
        sheet.counter_a_node(
            "millrace_node_blocks_taken",
            "Blocks submitted to the node that it took or had",
            nodes,
            |node| node.blocks_taken.value(),
        )?;
        sheet.counter_a_node(
            "millrace_node_blocks_duplicate",
            "Those of them that the node had already",
            nodes,
            |node| node.blocks_duplicate.value(),
        )?;
        sheet.counter_a_node(
            "millrace_node_blocks_inconclusive",
            "Those of them that the node has beside its best chain",
            nodes,
            |node| node.blocks_inconclusive.value(),
        )?;
        sheet.counter_a_node(
            "millrace_node_blocks_refused",
            "Blocks that the node refused",
            nodes,
            |node| node.blocks_refused.value(),
        )?;
        sheet.histogram(
            "millrace_share_to_submission",
            "Complete frame of a block's share to the block written to a node",
            &self.times,
            &self.telemetry.blocks.share_to_submission,
        )
    }

    fn template_age_s(&self) -> u64 {
        match self.telemetry.templates.own_ns.value() {
            0 => 0,
            own_ns => monotonic_ns().saturating_sub(own_ns) / NS_PER_S,
        }
    }

    /// Nothing on the dev chain, where there is nothing to search.
    pub(super) fn blocks(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        if self.telemetry.nodes.is_empty() {
            return Ok(());
        }
        let blocks = &self.telemetry.blocks;
        sheet.table(
            "millrace_blocks_unannounced",
            "Blocks in the chain that no share announced: ours, or with the pool's tag alone",
            "kind",
            &blocks.unannounced,
        )?;
        sheet.gauge(
            "millrace_blocks_open",
            "Blocks of ours that no node has taken yet",
            blocks.open.value(),
        )?;
        sheet.gauge(
            "millrace_node_template_age_seconds",
            "Since the own template of the node in use was had",
            self.template_age_s(),
        )?;
        sheet.gauge(
            "millrace_blocks_unsettled",
            "Blocks of ours in the chain that wait for the operator to book them",
            blocks.unsettled.value(),
        )?;
        sheet.counter(
            "millrace_chain_blocks_unread",
            "Blocks of the chain that no node gave, so that nobody looked whether they are ours",
            blocks.unread.value(),
        )?;
        sheet.gauge(
            "millrace_chain_tip_height",
            "Height of the tip that is followed",
            blocks.tip_height.value(),
        )?;
        sheet.gauge(
            "millrace_chain_searched_height",
            "Height up to which the chain was searched for blocks of ours",
            blocks.searched_height.value(),
        )?;
        sheet.counter(
            "millrace_blocks_mature_lost",
            "Blocks of ours that the chain lost when they were mature",
            blocks.mature_lost.value(),
        )?;
        sheet.counter(
            "millrace_chain_reorganisations",
            "New tips for which the chain lost blocks",
            blocks.reorganisations.value(),
        )?;
        sheet.gauge(
            "millrace_chain_reorganised_most",
            "The most blocks that the chain lost for one new tip; 144 stands for that many or more",
            blocks.reorganised_most.value(),
        )?;
        sheet.table(
            "millrace_chain_tasks_failed",
            "Tasks about the chain that failed while the pool goes on: restart it",
            "task",
            &blocks.tasks_failed,
        )
    }
}
