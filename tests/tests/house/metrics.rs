//! `docs/metrics.md` and the code: each metric is there by its name, kind and labels, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use tests::{Act, FakeUpstream, Host, Plugin, eventually};

use super::{files, read, root};

/// What the page says: name → kind and labels.
fn page() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = read(&root().join("docs/metrics.md"));
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `pointsman_")?.split(" | ");
        let (name, kind) = (cells.next()?.strip_suffix('`')?, cells.next()?);
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        Some((format!("pointsman_{name}"), (kind.to_owned(), labels)))
    });
    rows.collect()
}

/// Fifteen metrics were in no document.
#[test]
fn every_metric_is_on_its_page() {
    let mut names = BTreeSet::new();
    for file in files("host/src", ".rs") {
        let text = read(&file);
        for part in text.split("\"pointsman_").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
                names.insert(format!("pointsman_{name}"));
            }
        }
    }
    let page: BTreeSet<String> = page().into_keys().collect();
    let missing: Vec<_> = names.difference(&page).collect();
    let gone: Vec<_> = page.difference(&names).collect();
    assert!(missing.is_empty() && gone.is_empty(), "docs/metrics.md lacks {missing:?}, and has {gone:?}, which is nowhere");
}

/// What a host with all that can be configured tells has the kinds and the labels that the page says.
#[test]
fn metrics_are_as_their_page_says() {
    let fake = FakeUpstream::start();
    let limits =
        [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-remaining-requests", "90"), ("x-ratelimit-reset-requests", "60s")];
    fake.always(limits.iter().fold(Act::answer(), |act, (name, value)| act.header(name, value)));
    let provider = "key = \"file:key.txt\"\nmetrics = \"/metrics\"\nprobe = {}\nconcurrency = {}";
    let host = Host::new().file("key.txt", b"sk-1").upstream(&fake).provider(provider).semantic().section("[degrade]");
    let host = host.plugin(Plugin::puppet().set("grant = [\"kv\", \"metrics\", \"log\"]")).start();
    assert_eq!(host.chat("hi").status, 200);
    let text = eventually("the key's limits are known", || {
        let text = host.admin("/metrics").text().to_owned();
        text.contains("pointsman_key_remaining").then_some(text)
    });
    let (page, mut seen) = (page(), BTreeSet::new());
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert_eq!(page.get(name).map(|(kind, _)| kind.as_str()), Some(kind), "{name}");
            seen.insert(name.to_owned());
        } else if !line.starts_with('#') {
            let (series, labels) =
                line.split_once('{').map_or((line.split(' ').next().unwrap_or_default(), ""), |(name, rest)| (name, rest));
            let name = seen.iter().filter(|name| series.starts_with(name.as_str())).max_by_key(|name| name.len()).expect(line);
            let labels = labels
                .split("\",")
                .filter_map(|label| Some(label.split_once("=\"")?.0.trim_start_matches([' ', ',']).to_owned()));
            let labels: BTreeSet<String> = labels.filter(|label| label != "le").collect();
            assert_eq!(page[name].1, labels, "{line}");
        }
    }
    assert!(seen.len() >= 45, "only {} of {}", seen.len(), page.len());
}
