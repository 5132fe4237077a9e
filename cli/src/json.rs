//! JSON beside the text: pretty, one value, a newline at its end.

use serde::Serialize;

use super::outcome::Failure;

/// What the kernel has a number for, and this crate perhaps a name.
#[derive(Debug, Serialize)]
pub(crate) struct Named {
    pub(crate) value: i64,
    /// Nothing for a number that has no name here.
    pub(crate) name: Option<&'static str>,
}

/// A value as text.
///
/// # Errors
/// None that is known: every value of these tools has a JSON form.
pub(crate) fn text(value: &impl Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::new(error.to_string()))?;
    text.push('\n');
    Ok(text)
}
