//! The HTML report in a real browser, headless: it opens, hostile names do nothing, it loads nothing, and there is
//! something to see, in light and in dark and without JavaScript.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use killtrace::model::Report;
use killtrace::model::report::{ProcessRef, What};
use killtrace::{recording, report};
use killtrace_tests::patient;
use killtrace_tests::skip;
use serde_json::Value;
use tempfile::TempDir;

/// What would show in the page's root element if it ran.
const MARK: &str = "document.documentElement.dataset.owned=1";

/// One browser at a time: each is several processes.
static TURN: Mutex<()> = Mutex::new(());

/// A browser's program, if there is one.
fn browser() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()));
    if found.is_none() {
        skip("no chromium here to open a page; `cargo xtask setup` installs it");
    }
    found
}

/// A page in a directory of its own.
struct Page {
    directory: TempDir,
}

impl Page {
    fn new(html: &str) -> Self {
        let directory = tempfile::tempdir().expect("cannot make a directory");
        fs::write(directory.path().join("page.html"), html).expect("cannot write the page");
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Opens it with these options, waits for the browser to end, and gives what that printed.
    fn open(&self, browser: &str, options: &[&str]) -> String {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (out, log) = (self.path("out"), self.path("log"));
        let file = |path: &Path| fs::File::create(path).expect("cannot make a file");
        let mut command = Command::new(browser);
        // Its own sandbox needs more than a test may have in a container; the page is one that we wrote.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args([
            "--no-first-run",
            "--disable-extensions",
            "--hide-scrollbars",
            "--window-size=1200,900",
        ]);
        command.arg(format!("--user-data-dir={}", self.path("profile").display())).args(options);
        command.arg(format!("file://{}", self.path("page.html").display()));
        command.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&log));
        let mut child = command.spawn().expect("the browser runs");
        let log = || fs::read_to_string(&log).unwrap_or_default();
        assert!(ended(&mut child, patient(60)), "the browser did not end: {}", log());
        fs::read_to_string(&out).unwrap_or_else(|error| panic!("{error}: {}", log()))
    }

    /// The document as it is when it has been loaded and its script has run.
    fn dom(&self, browser: &str, options: &[&str]) -> String {
        let dom = self.open(browser, &[&["--dump-dom"], options].concat());
        assert!(dom.contains("</html>"), "no document: {dom}");
        dom
    }

    /// Every colour on the screen, with how many pixels have it.
    fn colours(&self, browser: &str, options: &[&str]) -> BTreeMap<[u8; 3], usize> {
        let shot = self.path("shot.png");
        let to = format!("--screenshot={}", shot.display());
        self.open(browser, &[&[to.as_str()], options].concat());
        let file = BufReader::new(fs::File::open(&shot).expect("a screenshot was taken"));
        let mut reader = png::Decoder::new(file).read_info().expect("it is a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("it fits into memory")];
        let info = reader.next_frame(&mut pixels).expect("it is whole");
        let samples = info.color_type.samples();
        assert!(samples >= 3, "{:?}", info.color_type);
        let mut colours = BTreeMap::new();
        for pixel in pixels[..info.buffer_size()].chunks_exact(samples) {
            *colours.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
        }
        colours
    }
}

fn ended(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if child.try_wait().expect("it can be waited for").is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

/// A report of something that happened.
fn recorded(case: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("replay").join(case).join("events.jsonl");
    recording::load(&path).expect("a recording of the tests").into_report()
}

fn html(report: &Report) -> String {
    let format = report::by_name("html").expect("a format");
    let mut page = Vec::new();
    format.write(report, &report::Options::default(), &mut page).expect("memory can be written to");
    String::from_utf8(page).expect("it is text")
}

/// The report with hostile names wherever somebody can choose one.
fn hostile(report: &Report) -> Report {
    fn replace(value: &mut Value, count: &mut usize) {
        const FIXED: [&str; 11] = [
            "kind",
            "mechanism",
            "confidence",
            "role",
            "scope",
            "unit_scope",
            "cause",
            "result",
            "trend",
            "via",
            "t",
        ];
        match value {
            Value::String(text) => {
                let payloads = [
                    format!("<script>{MARK}</script>"),
                    format!("<img src=x onerror=\"{MARK}\"><svg onload={MARK}>"),
                    format!(
                        "\"'><svg/onload='{MARK}'>]]>-->--!></title></style></script><script>{MARK}</script>"
                    ),
                    format!("javascript:{MARK}//\u{202e}\u{2066}\x1b[2J\n\0`|%"),
                    format!("<iframe srcdoc='<script>top.{MARK}</script>'>{}", "A".repeat(4096)),
                ];
                *count += 1;
                *text = payloads[*count % payloads.len()].clone();
            }
            Value::Array(items) => items.iter_mut().for_each(|item| replace(item, count)),
            Value::Object(map) => {
                for (key, item) in map.iter_mut() {
                    let fixed = FIXED.contains(&key.as_str()) || key.ends_with("_at");
                    if !(item.is_string() && fixed) {
                        replace(item, count);
                    }
                }
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(report).expect("a report is JSON");
    replace(&mut value, &mut 0);
    serde_json::from_value(value).expect("what is fixed was left alone")
}

/// The tag of the root element, where what ran leaves its marks.
fn root(dom: &str) -> &str {
    let from = dom.find("<html").expect("a root element");
    dom[from..].split('>').next().unwrap_or_default()
}

/// The page as it would be if its escaping had failed.
fn broken(page: &str, injected: &str) -> String {
    page.replacen("</header>", &format!("</header>{injected}"), 1)
}

/// The same without the policy that forbids the rest.
fn without_policy(page: &str) -> String {
    let (before, after) = page.split_once("<meta http-equiv=").expect("a policy");
    let (_, after) = after.split_once('\n').expect("it ends");
    format!("{before}{after}")
}

#[test]
fn hostile_names_run_nothing() {
    let Some(browser) = browser() else { return };
    let page = html(&hostile(&recorded("wrapper-killed-6.18")));
    assert!(page.contains(&format!("&lt;script&gt;{MARK}")), "the names are not there");
    let dom = Page::new(&page).dom(browser, &[]);
    assert_eq!(root(&dom), "<html lang=\"en\" class=\"script\"", "its own script runs, and nothing else");
    assert_eq!(dom.matches("<script").count(), 1);
    assert!(!dom.contains("<iframe") && !dom.contains("<img"));
}

#[test]
fn what_got_in_would_not_run_either() {
    let Some(browser) = browser() else { return };
    let page = html(&recorded("wrapper-killed-6.18"));
    let injected =
        format!("<script>{MARK}</script><img src=x onerror=\"{MARK}\"><svg onload=\"{MARK}\"></svg>");
    let page = broken(&page, &injected);
    assert_eq!(root(&Page::new(&page).dom(browser, &[])), "<html lang=\"en\" class=\"script\"");
    // And the mark would be seen.
    let dom = Page::new(&without_policy(&page)).dom(browser, &[]);
    assert!(root(&dom).contains("data-owned"), "{}", root(&dom));
}

/// What the page asked of this server. For a frame, Chromium opens a connection before it looks whether the policy
/// allows it, and sends nothing through it.
fn requests(server: &TcpListener) -> usize {
    let mut requests = 0;
    while let Ok((mut stream, _)) = server.accept() {
        stream.set_nonblocking(true).expect("it can be asked");
        requests += usize::from(stream.read(&mut [0]).is_ok_and(|read| read != 0));
    }
    requests
}

#[test]
fn nothing_is_loaded() {
    let Some(browser) = browser() else { return };
    let server = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    server.set_nonblocking(true).expect("it can be asked");
    let origin = format!("http://{}", server.local_addr().expect("it has an address"));
    let page = html(&recorded("short-killer-6.18"));
    let all = format!(
        "<img src={origin}/i><link rel=stylesheet href={origin}/s><script src={origin}/j></script>\
         <iframe src={origin}/f></iframe><object data={origin}/o></object><video src={origin}/v></video>\
         <style>body {{ background: url({origin}/b) }}</style><script>fetch('{origin}/x')</script>"
    );
    Page::new(&broken(&page, &all)).dom(browser, &[]);
    assert_eq!(requests(&server), 0, "the page has asked for something");
    // And it would be seen. Nobody answers, so that nothing may wait for it: a beacon does not.
    let beacon = format!("<script>navigator.sendBeacon('{origin}/x')</script>");
    Page::new(&without_policy(&broken(&page, &beacon))).dom(browser, &[]);
    assert_ne!(requests(&server), 0, "not even without a policy");
}

/// Bright or dark, and with something on it.
fn looks(colours: &BTreeMap<[u8; 3], usize>) -> (bool, bool) {
    let total: usize = colours.values().sum();
    let (background, count) = colours.iter().max_by_key(|(_, count)| **count).expect("pixels");
    let bright = background.iter().map(|part| u32::from(*part)).sum::<u32>() > 3 * 128;
    (bright, total - count > total / 50 && colours.len() > 20)
}

#[test]
fn there_is_something_to_see_in_light_and_dark_and_without_javascript() {
    let Some(browser) = browser() else { return };
    let html = html(&recorded("wrapper-killed-6.18"));
    let page = Page::new(&html);
    let (light, dark) =
        ("--blink-settings=preferredColorScheme=1", "--blink-settings=preferredColorScheme=0");
    assert_eq!(looks(&page.colours(browser, &[light])), (true, true), "light");
    assert_eq!(looks(&page.colours(browser, &[dark])), (false, true), "dark");
    // The browser's own switch for scripts also stops what takes the screenshot.
    let (before, after) = html.split_once("script-src 'sha256-").expect("a policy");
    let plain = Page::new(&format!("{before}script-src 'none'; x-was '{after}"));
    assert_eq!(root(&plain.dom(browser, &[])), "<html lang=\"en\"", "no script has run");
    assert_eq!(looks(&plain.colours(browser, &[light])), (true, true), "without JavaScript");
    // A page with nothing on it does not look like that.
    let empty = Page::new("<!doctype html><title>nothing</title>");
    assert_eq!(looks(&empty.colours(browser, &[light])), (true, false), "nothing");
}

#[test]
fn a_timeline_of_ten_thousand_events_opens_fast() {
    let Some(browser) = browser() else { return };
    let mut report = recorded("group-kill-6.18");
    let last = report.timeline.last().expect("events").clone();
    for event in 1..10_000 {
        let mut entry = last.clone();
        (entry.id, entry.t_ns) = (last.id + event, last.t_ns + event * 1_000_000);
        let pid = 100_000 + u32::try_from(event / 2).expect("few");
        let process = ProcessRef { pid, comm: format!("worker-{pid}") };
        entry.what = if event.is_multiple_of(2) {
            What::Fork { parent: None, child: process }
        } else {
            What::Exec { process, path: "/usr/bin/worker".into(), cmdline: Some(vec!["worker".into()]) }
        };
        report.timeline.push(entry);
    }
    let page = html(&report);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("more processes are not drawn"));
    let page = Page::new(&page);
    let start = Instant::now();
    let dom = page.dom(browser, &[]);
    assert!(root(&dom).contains("class=\"script\""), "its script has not run");
    assert!(start.elapsed() < patient(30), "it took {:?}", start.elapsed());
}
