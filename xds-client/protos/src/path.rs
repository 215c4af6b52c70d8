//! The path of a field while a message is read or written, rendered only when somebody asks.

use std::fmt;

#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    Field(&'a str),
    Index(usize),
    /// The key of a map entry.
    Key(&'a str),
}

/// `static_resources.clusters[3].typed_extension_protocol_options["a.b"]`. An Any adds no step.
#[derive(Default)]
pub(crate) struct Steps<'a>(Vec<Step<'a>>);

impl<'a> Steps<'a> {
    pub(crate) fn push(&mut self, step: Step<'a>) {
        self.0.push(step);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// The path of a field below this one.
    pub(crate) fn with(&self, field: &str) -> String {
        let path = self.to_string();
        if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
    }
}

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if i == 0 => f.write_str(name)?,
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[\"{key}\"]")?,
            }
        }
        Ok(())
    }
}
