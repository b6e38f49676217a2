//! A plugin under test: which component, and what its owner writes about it.
//!
//! **Invariant:** nothing is granted that a test does not ask for, but to the asker, which is there to use it.

/// A plugin of a host: a component and what the owner writes about it.
#[derive(Clone, Debug)]
pub struct Plugin {
    pub(super) name: String,
    pub(super) component: Vec<u8>,
    pub(super) hooks: String,
    pub(super) settings: String,
}

impl Plugin {
    /// A plugin with all three hooks and no grants.
    pub fn new(name: &str, component: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.to_owned(),
            component: component.into(),
            hooks: r#""routing", "prompting", "caching""#.to_owned(),
            settings: String::new(),
        }
    }

    /// The guest that returns what the request tells it to.
    pub fn puppet() -> Self {
        Self::new("puppet", crate::guests::puppet())
    }

    /// The guest that asks the host what the request tells it to, with every grant.
    pub fn asker() -> Self {
        let all = r#""config", "log", "metrics", "upstreams", "embeddings", "clock", "random", "kv""#;
        Self::new("asker", crate::guests::asker())
            .hooks(r#""routing""#)
            .set("deadline = \"500ms\"")
            .set(&format!("grant = [{all}]"))
    }

    /// The guest that sends what the request tells it to, where its owner allows that.
    pub fn sender() -> Self {
        Self::new("sender", crate::guests::sender()).hooks(r#""routing""#).set("grant = [\"http\"]")
    }

    /// The guest that routes and says its revision.
    pub fn router(revision: u32) -> Self {
        Self::new("router", crate::guests::router(revision)).hooks(r#""routing""#)
    }

    /// Called at these hooks alone, as they stand in a TOML list.
    #[must_use]
    pub fn hooks(mut self, hooks: &str) -> Self {
        hooks.clone_into(&mut self.hooks);
        self
    }

    /// With one more line in its section.
    #[must_use]
    pub fn set(mut self, line: &str) -> Self {
        self.settings.push_str(line);
        self.settings.push('\n');
        self
    }

    /// With the hooks and the lines of another one.
    #[must_use]
    pub fn like(mut self, other: &Self) -> Self {
        self.hooks.clone_from(&other.hooks);
        self.settings.clone_from(&other.settings);
        self
    }

    /// With a line changed.
    #[must_use]
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.settings.contains(from), "{from:?} is not in the plugin's section");
        self.settings = self.settings.replacen(from, to, 1);
        self
    }

    /// A failure fails the request.
    #[must_use]
    pub fn must_not_fail(self) -> Self {
        self.set("on_failure = \"fail\"")
    }
}
