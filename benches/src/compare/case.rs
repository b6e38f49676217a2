//! What is compared: each case is a gateway, what it is made to do, and how one sees that it did.
//!
//! What it does not do: it starts nothing and measures nothing.
//!
//! **Invariant:** each case says what its answers must look like, so that no figure stands for something else than its name says.

/// Which gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gateway {
    /// None: the load driver asks the upstream itself.
    Direct,
    /// nginx, which reads no body: the floor.
    Nginx,
    /// pointsman, with these plugins, and with or without its cache.
    Pointsman { plugins: &'static [Plugin], cache: bool },
}

/// The plugins there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plugin {
    /// `plugins/route-by-complexity`: routing.
    Route,
    /// `plugins/prompt-ab`: prompting.
    Prompt,
    /// `plugins/tenant-cache`: caching.
    Cache,
    /// `benches/guests/pass`: routing, with no opinion.
    Pass,
    /// `benches/guests/policy`: all three hooks in one component, on one instance.
    Policy,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Its name in the table.
    pub(super) name: &'static str,
    pub(super) gateway: Gateway,
    /// All requests are the same one.
    pub(super) repeat: bool,
    /// Requests ask for a versioned prompt.
    pub(super) prompt: bool,
    /// What `x-pointsman-cache` must say in every answer.
    pub(super) outcome: &'static str,
}

pub(super) const DIRECT: &str = "direct";
pub(super) const NGINX: &str = "nginx";

const THREE: &[Plugin] = &[Plugin::Prompt, Plugin::Cache, Plugin::Route];

const fn pointsman(name: &'static str, plugins: &'static [Plugin], cache: bool) -> Case {
    Case {
        name,
        gateway: Gateway::Pointsman { plugins, cache },
        repeat: false,
        prompt: false,
        outcome: if cache { "miss" } else { "none" },
    }
}

const fn hit(name: &'static str, plugins: &'static [Plugin]) -> Case {
    Case { repeat: true, outcome: "exact", ..pointsman(name, plugins, true) }
}

const fn other(name: &'static str, gateway: Gateway) -> Case {
    Case { name, gateway, repeat: false, prompt: false, outcome: "none" }
}

/// Asked for plain answers, in this order, round after round.
pub(super) const PLAIN: [Case; 12] = [
    other(DIRECT, Gateway::Direct),
    other(NGINX, Gateway::Nginx),
    pointsman("no plugin", &[], false),
    pointsman("no plugin, cache: miss", &[], true),
    pointsman("a hook that passes", &[Plugin::Pass], false),
    pointsman("one hook", &[Plugin::Route], false),
    pointsman("three plugins: miss", THREE, true),
    Case { prompt: true, ..pointsman("three plugins and a prompt: miss", THREE, true) },
    pointsman("one component, three hooks: miss", &[Plugin::Policy], true),
    hit("no plugin: exact hit", &[]),
    hit("three plugins: exact hit", THREE),
    hit("one component, three hooks: exact hit", &[Plugin::Policy]),
];

/// Asked for streams.
pub(super) const STREAMS: [Case; 5] = [PLAIN[0], PLAIN[1], PLAIN[2], PLAIN[6], PLAIN[8]];

/// Whose memory is read.
pub(super) const MEMORY: [Case; 3] = [PLAIN[1], PLAIN[2], PLAIN[6]];

/// Whose start is timed.
pub(super) const START: Case = PLAIN[6];

impl Case {
    /// The plugins that are configured.
    pub(super) fn plugins(&self) -> &'static [Plugin] {
        match self.gateway {
            Gateway::Pointsman { plugins, .. } => plugins,
            Gateway::Direct | Gateway::Nginx => &[],
        }
    }

    /// Calls of plugins that one request makes at least. On a hit nobody asks for a route.
    pub(super) fn calls(&self) -> u64 {
        let of = |plugin: &Plugin| match (plugin, self.repeat) {
            (Plugin::Pass | Plugin::Route, true) => 0,
            (Plugin::Policy, true) => 2,
            (Plugin::Policy, false) => 3,
            (Plugin::Pass | Plugin::Route | Plugin::Prompt | Plugin::Cache, _) => 1,
        };
        self.plugins().iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_calls_add_up() {
        let names: BTreeSet<_> = PLAIN.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), PLAIN.len());
        let calls: Vec<u64> = PLAIN.iter().map(Case::calls).collect();
        assert_eq!(calls, [0, 0, 0, 0, 1, 1, 3, 3, 3, 0, 2, 2]);
        assert_eq!(
            STREAMS.map(|case| case.name),
            ["direct", "nginx", "no plugin", "three plugins: miss", "one component, three hooks: miss"]
        );
        assert_eq!(START.plugins().len(), 3);
    }
}
