//! The command line of the real binary: exit codes, what goes to which stream, and `pointsman dev` from a fresh clone.

mod check;
mod codes;
mod dev;
mod files;
mod new;
mod tutorial;
