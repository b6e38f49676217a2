//! What a component costs to compile, by a look at its code: compiling cannot be broken off, and takes time and memory that hang on more
//! than the size of the file.
//!
//! Cranelift compiles function by function, in a time that grows a little faster than their size. What grows much faster is what it notes
//! where the flow of a function can come together: of each variable, at each such place. So the largest function is bounded, and so is the
//! product of variables and places.
//!
//! What it does not do: it does not say whether the code is sound; whoever compiles it does.
//!
//! **Invariant:** its own time is linear in the bytes.

use wasmparser::{BinaryReaderError, CompositeInnerType, FunctionBody, Operator, Parser, Payload, TypeSectionReader};

// Measured of what toolchains make, 12 MB of JavaScript's engine and 19 MB of Python: 14,000 functions, the largest of 430 KB; 550,000 meetings in
// one function, 15 million in all; 250 types and functions of interfaces.

/// Bytes of one function.
const MAX_FUNCTION: usize = 1 << 20;
/// Functions of all modules together. Each costs some 200 microseconds and 7 KB, however short it is.
const MAX_FUNCTIONS: u64 = 50_000;
/// Variables × places where the flow can come together, of one function. Each costs about a microsecond, and a little memory.
const MAX_MEETINGS: u64 = 1 << 21;
/// The same of all functions together.
const MAX_ALL_MEETINGS: u64 = 1 << 26;
/// Types, and functions that are lifted or lowered, of all components together: each is made code for.
const MAX_INTERFACE: u64 = 10_000;

/// What is too much of a component.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("would take too long to compile: it has {0}")]
pub(super) struct Excess(String);

/// Looks at all the code.
///
/// # Errors
/// There is too much of it in one place.
pub(super) fn check(bytes: &[u8]) -> Result<(), Excess> {
    let mut sums = Sums::default();
    for payload in Parser::new(0).parse_all(bytes) {
        // What cannot be read cannot be compiled either.
        let Ok(payload) = payload else { return Ok(()) };
        sums.add(payload)?;
    }
    Ok(())
}

#[derive(Default)]
struct Sums {
    /// Values that a function or block of the module may take and give: variables like the others. Each module has its own.
    arity: u64,
    functions: u64,
    meetings: u64,
    interface: u64,
}

impl Sums {
    fn add(&mut self, payload: Payload<'_>) -> Result<(), Excess> {
        match payload {
            Payload::Version { .. } => {
                self.arity = 0;
                Ok(())
            }
            Payload::TypeSection(types) => {
                self.arity = arity(types).unwrap_or(0);
                Ok(())
            }
            Payload::CodeSectionEntry(body) => self.function(&body),
            Payload::ComponentTypeSection(types) => self.interface(types.count()),
            Payload::CoreTypeSection(types) => self.interface(types.count()),
            Payload::ComponentCanonicalSection(functions) => self.interface(functions.count()),
            _ => Ok(()),
        }
    }

    fn interface(&mut self, more: u32) -> Result<(), Excess> {
        self.interface += u64::from(more);
        within(self.interface, MAX_INTERFACE, "types and functions of its interfaces")
    }

    fn function(&mut self, body: &FunctionBody<'_>) -> Result<(), Excess> {
        self.functions += 1;
        within(self.functions, MAX_FUNCTIONS, "functions")?;
        within(body.range().len() as u64, MAX_FUNCTION as u64, "bytes in one function")?;
        let meetings = meetings(body, self.arity).unwrap_or(0);
        within(meetings, MAX_MEETINGS, "pairs of a variable and a branch in one function")?;
        self.meetings += meetings;
        within(self.meetings, MAX_ALL_MEETINGS, "pairs of a variable and a branch in its functions")
    }
}

fn within(count: u64, most: u64, what: &str) -> Result<(), Excess> {
    if count <= most { Ok(()) } else { Err(Excess(format!("more than {most} {what}"))) }
}

/// The most values that any function or block of a module takes and gives.
fn arity(types: TypeSectionReader<'_>) -> Result<u64, BinaryReaderError> {
    let mut most = 0;
    for group in types {
        for own in group?.types() {
            if let CompositeInnerType::Func(function) = &own.composite_type.inner {
                most = most.max(function.params().len() + function.results().len());
            }
        }
    }
    Ok(most as u64)
}

/// The variables of a function, times the places where its flow can come together.
fn meetings(body: &FunctionBody<'_>, arity: u64) -> Result<u64, BinaryReaderError> {
    let mut variables = arity;
    for group in body.get_locals_reader()? {
        variables += u64::from(group?.0);
    }
    let mut places = 1;
    for operator in body.get_operators_reader()? {
        places += match operator? {
            Operator::BrTable { targets } => u64::from(targets.len()) + 1,
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Br { .. }
            | Operator::BrIf { .. } => 1,
            _ => 0,
        };
    }
    Ok(variables.saturating_mul(places))
}
