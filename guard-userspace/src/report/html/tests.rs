use sha2::{Digest as _, Sha256};

use super::*;
use crate::report::sample;

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        for letter in 0..4 {
            let index = bits >> (18 - 6 * letter) & 63;
            text.push(if letter <= three.len() { char::from(LETTERS[index]) } else { '=' });
        }
    }
    text
}

#[test]
fn the_policy_names_the_style_and_the_script() {
    for (what, content) in [("style", STYLE), ("script", SCRIPT)] {
        let wanted = format!("{what}-src 'sha256-{}'", base64(&Sha256::digest(content)));
        assert!(POLICY.contains(&wanted), "write into POLICY: {wanted}");
    }
    assert_eq!(base64(b"ab"), "YWI=");
}

/// Every tag, with its attributes.
fn tags(page: &str) -> Vec<&str> {
    let body = page.split("<style>").next().into_iter().chain(page.split("</style>").nth(1));
    body.flat_map(|part| part.split("<script>").next())
        .flat_map(|part| part.split('<').skip(1))
        .map(|tag| tag.split('>').next().unwrap_or(tag))
        .collect()
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&sample::report());
    for tag in tags(&page) {
        for attribute in ["src=", "srcset=", "action=", "style=", " on"] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        if let Some((_, target)) = tag.split_once("href=\"") {
            assert!(target.starts_with('#'), "{tag}");
        }
    }
    assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
}

#[test]
fn every_tag_is_closed_in_order() {
    const VOID: [&str; 5] = ["!doctype", "meta", "br", "path/", "circle"];
    for report in [sample::report(), sample::nothing_died(), sample::every_variant()] {
        let page = page(&report);
        let mut open = Vec::new();
        for tag in tags(&page) {
            let name = tag.split([' ', '\n']).next().unwrap_or(tag);
            if let Some(name) = name.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "</{name}>");
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
        // The script, which is not looked at, closes them.
        assert_eq!(open, ["html", "body"]);
    }
}

#[test]
fn links_within_the_page_lead_somewhere() {
    let page = page(&sample::report());
    for link in page.split("href=\"#").skip(1) {
        let id = link.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")) || id.starts_with("event-"), "{id}");
    }
}

#[test]
fn a_page_of_thousands_of_deaths_stays_small_and_says_what_it_leaves_out() {
    let mut report = sample::report();
    let (one, entry) = (report.deaths[0].clone(), report.timeline[0].clone());
    report.deaths = (1..=5_000).map(|id| Death { id, ..one.clone() }).collect();
    report.timeline = (0..20_000)
        .map(|id| {
            let mut entry = entry.clone();
            (entry.id, entry.t_ns) = (id, id * 1_000_000);
            let pid = u32::try_from(id % 500).unwrap() + 100;
            let child = model::report::ProcessRef { pid, comm: "child".to_owned() };
            entry.what = model::report::What::Fork { parent: None, child };
            entry
        })
        .collect();
    let page = page(&report);
    assert!(page.len() < 4_000_000, "{} bytes", page.len());
    for said in [
        "3,000 earlier deaths are only in the JSON",
        "1,900 deaths have no section",
        "more processes are not drawn",
        "15,000 more events are in the JSON",
    ] {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn the_same_report_is_the_same_page() {
    assert_eq!(page(&sample::report()), page(&sample::report()));
}
