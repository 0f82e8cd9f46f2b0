//! The processes around a death, as a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::writer::Html;
use crate::model::report::{Confidence, Death, TreeNode};
use crate::model::units;

/// Processes shown.
const SHOWN: usize = 200;
/// Levels that are moved to the right; deeper ones stay there.
const DEEPEST: usize = 24;
/// With no more than that, the tree is open at once.
const SMALL: usize = 14;

pub(super) fn details(html: &mut Html, death: &Death) {
    let nodes = &death.context.tree;
    if nodes.is_empty() {
        return;
    }
    html.raw(if nodes.len() <= SMALL { "<details open>\n" } else { "<details>\n" });
    html.raw("<summary>The processes around it</summary>\n<ul class=\"tree\">\n");
    for (node, depth) in ordered(nodes).into_iter().take(SHOWN) {
        line(html, death, node, depth);
    }
    html.raw("</ul>\n");
    let more = nodes.len().saturating_sub(SHOWN);
    if more != 0 {
        let more = units::counted(more as u64, "more process", "more processes");
        html.element("<p class=\"more\">… and ", &more, "</p>\n");
    }
    html.raw("</details>\n");
}

fn behind_it(death: &Death) -> &'static str {
    let sure = death.root_cause.as_ref().is_some_and(|root| root.confidence == Confidence::Certain);
    if sure { "behind it" } else { "most likely behind it" }
}

fn line(html: &mut Html, death: &Death, node: &TreeNode, depth: usize) {
    let is = |actor: Option<u32>| actor == Some(node.pid);
    let decider = death.decider();
    let role = if node.pid == death.victim.pid {
        Some(("<li class=\"victim\">", "the victim"))
    } else if is(death.killer.as_ref().map(|killer| killer.pid)) {
        Some(("<li class=\"killer\">", "the killer"))
    } else if is(decider.map(|actor| actor.pid)) {
        Some(("<li class=\"killer\">", behind_it(death)))
    } else {
        None
    };
    let plain = if node.alive { "<li>" } else { "<li class=\"gone\">" };
    html.raw(role.map_or(plain, |(open, _)| open)).raw("<span class=\"branch\" aria-hidden=\"true\">");
    for level in 0..depth.min(DEEPEST) {
        html.raw(if level + 1 == depth.min(DEEPEST) { "└─ " } else { "   " });
    }
    html.element("</span><b>", &node.name, "</b> <span class=\"pid\">").number(node.pid).raw("</span>");
    if node.comm != node.name {
        html.element(" <span class=\"small\">", &node.comm, "</span>");
    }
    if !node.alive {
        html.raw(" <span class=\"badge\">gone</span>");
    }
    if let Some((_, role)) = role {
        html.raw(" <span class=\"badge fatal\">").raw(role).raw("</span>");
    }
    if let Some(score) = node.oom_score_adj.filter(|&score| score != 0) {
        html.element(" <span class=\"small\">", &format!("oom_score_adj {score}"), "</span>");
    }
    html.raw("</li>\n");
}

/// Parents before their children, with the depth of each. A circle, which only damage can make, starts anywhere.
fn ordered(nodes: &[TreeNode]) -> Vec<(&TreeNode, usize)> {
    let pids: BTreeSet<u32> = nodes.iter().map(|node| node.pid).collect();
    let mut children: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        match node.ppid.filter(|parent| pids.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(index),
            None => roots.push(index),
        }
    }
    let mut ordered = Vec::new();
    let mut seen = vec![false; nodes.len()];
    let circles = 0..nodes.len();
    for start in roots.into_iter().chain(circles) {
        let mut stack = vec![(start, 0)];
        while let Some((index, depth)) = stack.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let node = &nodes[index];
            ordered.push((node, depth));
            let below = children.get(&node.pid).into_iter().flatten().rev();
            stack.extend(below.map(|&child| (child, depth + 1)));
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(pid: u32, ppid: u32) -> TreeNode {
        TreeNode {
            pid,
            ppid: Some(ppid),
            comm: String::new(),
            name: String::new(),
            oom_score_adj: None,
            alive: true,
        }
    }

    #[test]
    fn children_come_below_their_parents() {
        let nodes = [node(3, 2), node(1, 0), node(4, 1), node(2, 1)];
        let order: Vec<_> = ordered(&nodes).iter().map(|(node, depth)| (node.pid, *depth)).collect();
        assert_eq!(order, [(1, 0), (4, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_circle_ends() {
        let nodes = [node(1, 2), node(2, 1), node(3, 3)];
        let order: Vec<_> = ordered(&nodes).iter().map(|(node, depth)| (node.pid, *depth)).collect();
        assert_eq!(order, [(1, 0), (2, 1), (3, 0)]);
    }
}
