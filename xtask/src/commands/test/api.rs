//! The public API of the library has no types of other crates than std's.
//!
//! Such a type would make every incompatible release of that crate one of ours. rustdoc's JSON, which only nightly writes, lists each
//! public item with all types and traits that it mentions, implemented traits included.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::{Result, process};

/// The crates whose types may be seen.
const ALLOWED: [&str; 3] = ["std", "core", "alloc"];

/// Checks the library.
///
/// # Errors
/// The foreign types by item; or there is no nightly toolchain.
pub(super) fn check() -> Result<()> {
    let target = process::checkout().join("target/api");
    // rustup's proxy picks the toolchain, which the path of the running cargo would not.
    let mut command = Command::new("cargo");
    command.current_dir(process::checkout()).env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
        .args(["+nightly", "rustdoc", "--quiet", "--package", "bareverbs", "--lib", "--target-dir"])
        .arg(&target);
    command.args(["--", "-Zunstable-options", "--output-format", "json", "--cap-lints", "allow"]);
    process::output(&mut command)
        .map_err(|error| format!("{error}; needs: rustup toolchain install nightly"))?;
    let path = target.join("doc/bareverbs.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let json: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let seen = Mentioned::of(&json);
    // A changed format must not look like a clean API: there are hundreds of items, and they do mention std.
    if seen.items < 300 || seen.crates.is_disjoint(&ALLOWED.map(str::to_owned).into()) {
        return Err(format!(
            "{}: only {} items, of crates {:?}: has its format changed?",
            path.display(),
            seen.items,
            seen.crates
        ));
    }
    match seen.foreign.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "types of other crates:\n  {}",
            seen.foreign.into_iter().collect::<Vec<_>>().join("\n  ")
        )),
    }
}

/// What the public items mention.
#[derive(Debug, Default)]
struct Mentioned {
    items: usize,
    crates: BTreeSet<String>,
    /// Item and path of each type or trait of a crate that is not allowed.
    foreign: BTreeSet<String>,
}

impl Mentioned {
    fn of(json: &Value) -> Self {
        let mut seen = Self::default();
        for item in json["index"].as_object().into_iter().flat_map(|index| index.values()) {
            let implemented = &item["inner"]["impl"];
            // What another crate implements for every type is not ours to change.
            let generated = !implemented["blanket_impl"].is_null() || implemented["is_synthetic"] == true;
            if item["crate_id"] == 0 && !generated {
                seen.items += 1;
                let name = match item["name"].as_str() {
                    Some(name) => name.to_owned(),
                    None => format!(
                        "impl for {}",
                        implemented["for"]["resolved_path"]["path"].as_str().unwrap_or("?")
                    ),
                };
                seen.walk(json, &name, &item["inner"]);
            }
        }
        seen
    }

    /// Looks at every reference to an item: an object with an `id`, and a `path` or a `name`.
    fn walk(&mut self, json: &Value, item: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(id) =
                    map.get("id").filter(|_| map.contains_key("path") || map.contains_key("name"))
                {
                    self.mention(json, item, id);
                }
                map.values().for_each(|value| self.walk(json, item, value));
            }
            Value::Array(values) => values.iter().for_each(|value| self.walk(json, item, value)),
            _ => {}
        }
    }

    fn mention(&mut self, json: &Value, item: &str, id: &Value) {
        let key = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        let target = &json["paths"][&key];
        if target.is_null() || target["crate_id"] == 0 {
            return;
        }
        let name = json["external_crates"][target["crate_id"].to_string()]["name"].as_str().unwrap_or("?");
        self.crates.insert(name.to_owned());
        if !ALLOWED.contains(&name) {
            let path: Vec<&str> =
                target["path"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            self.foreign.insert(format!("{item}: {}", path.join("::")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn foreign_types_and_traits_are_found() {
        let reference = |id: u32| json!({"resolved_path": {"path": "T", "id": id, "args": null}});
        let json = json!({
            "index": {
                "1": {"crate_id": 0, "name": "errno", "inner": {"function": {"sig": {"output": reference(10)}}}},
                "2": {"crate_id": 0, "name": "len", "inner": {"function": {"sig": {"output": reference(11)}}}},
                "3": {"crate_id": 0, "name": null, "inner": {"impl": {
                    "for": {"resolved_path": {"path": "Sge", "id": 12}}, "trait": {"path": "FromBytes", "id": 13},
                    "blanket_impl": null, "is_synthetic": false}}},
                "4": {"crate_id": 0, "name": null, "inner": {"impl": {
                    "trait": {"path": "Any", "id": 13}, "blanket_impl": {"generic": "T"}, "is_synthetic": false}}},
            },
            "paths": {
                "10": {"crate_id": 2, "path": ["nix", "errno", "Errno"]},
                "11": {"crate_id": 1, "path": ["core", "time", "Duration"]},
                "12": {"crate_id": 0, "path": ["bareverbs", "Sge"]},
                "13": {"crate_id": 3, "path": ["zerocopy", "FromBytes"]},
            },
            "external_crates": {"1": {"name": "core"}, "2": {"name": "nix"}, "3": {"name": "zerocopy"}},
        });
        let seen = Mentioned::of(&json);
        assert_eq!(seen.items, 3);
        let foreign: Vec<_> = seen.foreign.iter().map(String::as_str).collect();
        assert_eq!(foreign, ["errno: nix::errno::Errno", "impl for Sge: zerocopy::FromBytes"]);
        assert_eq!(seen.crates.len(), 3);
    }
}
