//! Versioned prompts: `prompts/NAME/VERSION.j2`, in version control, asked for by name and rendered with variables.
//!
//! What it does not do: it does not choose a version for anybody (a client, a `prompting` plugin or a pin does).
//!
//! **Invariant:** a version's text never changes while it is in force: an exchange renders from the snapshot that it began with.
//! **Invariant:** a variable's value cannot make a message of its own: a template is cut into messages before it is rendered. Nor can it
//! make a fragment.

mod fragments;
mod registry;
mod render;

pub use fragments::Part;
pub use registry::{Problem, Registry, Summary};
pub use render::{Messages, PromptError, Rendered};
