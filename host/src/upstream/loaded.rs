//! Which models and adapters endpoints have loaded, as far as they say: from `GET /v1/models` of vLLM, SGLang and others, and from
//! vLLM's metric `vllm:lora_requests_info`.
//!
//! An endpoint that lists models, and not the one that a request is for, is not asked for it while another lists it. Among those that do,
//! one where the adapter is running already is preferred to one that must load it, and that to one whose slots are taken by others.
//!
//! What it does not do: it asks nobody (`scrape`), and chooses nobody (`pool`, `balance`).
//!
//! **Invariant:** who says nothing is taken to have everything; what was said too long ago counts as nothing.
//! **Invariant:** a choice looks up one name, and only where endpoints differ.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::Deserialize;
use tokio::time::Instant;

use super::endpoint::Endpoint;

/// The name of vLLM's metric, with the brace that follows it.
const LORA: &str = "vllm:lora_requests_info{";
/// The most names that are remembered of one endpoint.
const NAMES: usize = 4_096;

/// What an endpoint lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Models {
    /// All, in order.
    pub names: Vec<String>,
    /// Those that are adapters of another.
    pub adapters: Vec<String>,
}

impl Models {
    /// Reads OpenAI's list; an adapter is an entry with a `parent`. None where it is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Card>,
        }
        #[derive(Deserialize)]
        struct Card {
            id: String,
            #[serde(default)]
            parent: Option<String>,
        }
        let list: List = serde_json::from_slice(body).ok()?;
        let mut models = Self::default();
        for card in list.data.into_iter().take(NAMES) {
            if card.parent.is_some_and(|parent| parent != card.id) {
                models.adapters.push(card.id.clone());
            }
            models.names.push(card.id);
        }
        models.names.sort_unstable();
        models.adapters.sort_unstable();
        (!models.names.is_empty()).then_some(models)
    }
}

/// A server's slots for adapters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lora {
    /// How many adapters it can run at once.
    pub max: usize,
    /// Those that it runs.
    pub running: Vec<String>,
}

impl Lora {
    /// Reads a page in Prometheus' text format. The metric's value is a time, and the latest counts.
    pub fn read(page: &str) -> Option<Self> {
        let series = page.lines().filter_map(|line| line.strip_prefix(LORA)?.rsplit_once('}'));
        let at = |value: &str| value.split_ascii_whitespace().next().and_then(|value| value.parse::<f64>().ok());
        let timed = series.filter_map(|(labels, value)| Some((labels, at(value).filter(|at| at.is_finite())?)));
        let (labels, _) = timed.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
        let running = label(labels, "running_lora_adapters")?;
        let mut running: Vec<String> =
            running.split(',').map(str::trim).filter(|name| !name.is_empty()).take(NAMES).map(str::to_owned).collect();
        running.sort_unstable();
        Some(Self { max: label(labels, "max_lora")?.parse().ok()?, running })
    }
}

/// A label's value, without its escapes.
fn label(mut labels: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = labels.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, character) in rest.char_indices() {
            match (escaped, character) {
                (false, '"') => {
                    end = Some(at);
                    break;
                }
                (false, '\\') => {}
                (true, 'n') => value.push('\n'),
                (_, character) => value.push(character),
            }
            escaped = !escaped && character == '\\';
        }
        if name.trim_start_matches(',').trim() == wanted {
            return end.map(|_| value);
        }
        labels = &rest[end? + 1..];
    }
}

/// What an endpoint has said last.
#[derive(Default)]
pub struct Said {
    models: ArcSwapOption<(Models, Instant)>,
    lora: ArcSwapOption<(Lora, Instant)>,
}

impl Said {
    /// It counts until then.
    pub(super) fn models(&self, models: Models, until: Instant) {
        self.models.store(Some(Arc::new((models, until))));
    }

    /// The same for its slots; none: it says nothing of them.
    pub(super) fn lora(&self, lora: Option<Lora>, until: Instant) {
        if lora.is_some() || self.lora.load().is_some() {
            self.lora.store(lora.map(|lora| Arc::new((lora, until))));
        }
    }

    /// Both, while they count.
    pub fn get(&self, now: Instant) -> (Option<Models>, Option<Lora>) {
        let models = self.models.load_full().filter(|said| now < said.1).map(|said| said.0.clone());
        (models, self.lora.load_full().filter(|said| now < said.1).map(|said| said.0.clone()))
    }
}

/// How an endpoint suits a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It lists others, and not this one.
    Lacks,
    /// It has it, or says nothing.
    Usual,
    /// It runs this adapter.
    Running,
    /// All its slots are taken by other adapters.
    Crowded,
}

impl Fit {
    /// What a request costs there, by comparison: loading an adapter takes a while, and waiting for a slot longer.
    pub(super) fn cost(self) -> f32 {
        match self {
            Self::Running => 0.5,
            Self::Usual | Self::Lacks => 1.0,
            Self::Crowded => 3.0,
        }
    }
}

/// How each endpoint of a pool suits each model for which they differ.
#[derive(Default)]
pub struct Fits(ArcSwap<HashMap<String, Arc<[Fit]>>>);

impl Fits {
    /// By the endpoints' places; none: they are all alike.
    pub fn of(&self, model: &str) -> Option<Arc<[Fit]>> {
        let table = self.0.load();
        if table.is_empty() { None } else { table.get(model).cloned() }
    }

    /// Makes the table anew, from what endpoints have said.
    pub(super) fn renew(&self, endpoints: &[Arc<Endpoint>], now: Instant) {
        let said: Vec<_> = endpoints.iter().map(|endpoint| endpoint.said.get(now)).collect();
        let table = table(&said);
        if !table.is_empty() || !self.0.load().is_empty() {
            self.0.store(Arc::new(table));
        }
    }
}

fn table(said: &[(Option<Models>, Option<Lora>)]) -> HashMap<String, Arc<[Fit]>> {
    let models = || said.iter().filter_map(|(models, _)| models.as_ref());
    let running = || said.iter().filter_map(|(_, lora)| lora.as_ref()).flat_map(|lora| &lora.running);
    let adapters: BTreeSet<&String> = models().flat_map(|models| &models.adapters).chain(running()).collect();
    let names: BTreeSet<&String> = models().flat_map(|models| &models.names).chain(running()).collect();
    let row = |name: &String| -> Arc<[Fit]> {
        let fit = |(models, lora): &(Option<Models>, Option<Lora>)| {
            let runs = lora.as_ref().is_some_and(|lora| lora.running.binary_search(name).is_ok());
            let full = adapters.contains(name) && lora.as_ref().is_some_and(|lora| lora.running.len() >= lora.max);
            let lists = models.as_ref().is_none_or(|models| models.names.binary_search(name).is_ok());
            match (lists, runs, full) {
                (_, true, _) => Fit::Running,
                (false, ..) => Fit::Lacks,
                (true, false, true) => Fit::Crowded,
                (true, false, false) => Fit::Usual,
            }
        };
        said.iter().map(fit).collect()
    };
    let rows = names.into_iter().map(|name| (name.clone(), row(name)));
    rows.filter(|(_, row)| row.windows(2).any(|pair| pair[0] != pair[1])).collect()
}

/// Until when what was said counts: as long as three readings take.
pub(super) fn until(interval: Duration, now: Instant) -> Instant {
    now + interval * 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn lists(names: &[&str], adapters: &[&str]) -> Option<Models> {
        Some(Models { names: strings(names), adapters: strings(adapters) })
    }

    fn runs(max: usize, running: &[&str]) -> Option<Lora> {
        Some(Lora { max, running: strings(running) })
    }

    #[test]
    fn lists_of_models() {
        let vllm = br#"{"object":"list","data":[{"id":"base","object":"model","root":"/m","parent":null,"max_model_len":8192},{"id":"ad","root":"/ad","parent":"base"}]}"#;
        assert_eq!(Models::read(vllm), lists(&["ad", "base"], &["ad"]));
        let sglang = br#"{"object":"list","data":[{"id":"b","root":"b"},{"id":"a","root":"a"}]}"#;
        assert_eq!(Models::read(sglang), lists(&["a", "b"], &[]));
        for other in [&b"{}"[..], b"", b"[]", br#"{"data":[]}"#, br#"{"data":[{"name":"x"}]}"#, br#"{"data":"x"}"#] {
            assert_eq!(Models::read(other), None);
        }
    }

    #[test]
    fn slots_of_adapters() {
        for (page, expect) in [
            ("", None),
            ("vllm:num_requests_running 3\n", None),
            (
                "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"b, a\",waiting_lora_adapters=\"c\"} 1.7e9\n",
                runs(4, &["a", "b"]),
            ),
            // The latest counts, wherever it stands.
            (
                "vllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"new\"} 1.7e9\nvllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"old\"} 1.6e9\n",
                runs(1, &["new"]),
            ),
            ("vllm:lora_requests_info{running_lora_adapters=\"\",max_lora=\"2\"} 1\n", runs(2, &[])),
            (
                "vllm:lora_requests_info{x=\"}\\\"max_lora=\\\"9\",max_lora=\"2\",running_lora_adapters=\"a\\\\\"} 1 2\n",
                runs(2, &["a\\"]),
            ),
            ("vllm:lora_requests_info{max_lora=\"many\",running_lora_adapters=\"\"} 1\n", None),
            ("vllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"a} 1\n", None),
            ("vllm:lora_requests_info{max_lora=\"1\",running_lora_adapters=\"a\"} NaN\n", None),
            ("vllm:lora_requests_info{", None),
        ] {
            assert_eq!(Lora::read(page), expect, "{page}");
        }
    }

    #[test]
    fn how_endpoints_suit_a_model() {
        use Fit::{Crowded, Lacks, Running, Usual};
        let said = [
            (lists(&["ad", "base"], &["ad"]), runs(2, &["ad"])),
            (lists(&["ad", "base"], &["ad"]), runs(2, &["x", "y"])),
            (lists(&["ad", "base"], &["ad"]), runs(2, &["x"])),
            (lists(&["base"], &[]), None),
            (None, None),
        ];
        let table = table(&said);
        assert_eq!(&*table["ad"], [Running, Crowded, Usual, Lacks, Usual]);
        assert!(!table.contains_key("base"), "all have it, and it needs no slot");
        assert!(!table.contains_key("unheard of"), "nobody lists it: it may have another name there");
        assert_eq!(&*table["x"], [Lacks, Running, Running, Lacks, Usual], "one that lists less than it runs");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_long_ago_counts_no_more() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let said = Said::default();
        said.models(lists(&["a"], &[]).unwrap(), until(second, now));
        said.lora(runs(1, &["a"]), until(second, now));
        assert_eq!(said.get(now + 2 * second), (lists(&["a"], &[]), runs(1, &["a"])));
        assert_eq!(said.get(now + 3 * second), (None, None));
        said.lora(None, now + 9 * second);
        assert_eq!(said.get(now).1, None);
    }
}
