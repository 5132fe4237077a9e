//! How many objects a device carries.

use super::Nldev;
use super::exchange::What;
use super::message::{Attributes, Read, required};
use crate::error::Result;
use crate::uapi::netlink as nl;

/// How many objects of each kind exist on a device, whoever made them; the kernel's own are among them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceCounts(Vec<(String, u64)>);

impl ResourceCounts {
    /// The count of one kind: `pd`, `cq`, `qp`, `cm_id`, `mr`, `ctx`, `srq`; nothing where the kernel does not count it.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<u64> {
        self.0.iter().find(|(name, _)| name == kind).map(|(_, count)| *count)
    }

    /// All kinds with their counts, in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}

impl Nldev {
    /// Counts the objects that exist on the device with this index.
    ///
    /// # Errors
    ///
    /// From the kernel: `EINVAL` where there is no such device. `BadAnswer` where the answer cannot be read.
    ///
    /// Linux 4.17, `RDMA_NLDEV_CMD_RES_GET`; `rdma-resource(8)`.
    pub fn resource_counts(&mut self, index: u32) -> Result<ResourceCounts> {
        let object = format!("device {index}");
        let what = What { operation: "count resources", object: &object };
        self.exchange.get(
            what,
            nl::RDMA_NLDEV_CMD_RES_GET,
            |request| request.u32(nl::RDMA_NLDEV_ATTR_DEV_INDEX, index),
            read,
        )
    }
}

/// Reads the table of counts: a nest of nests.
fn read(attributes: Attributes<'_>) -> Read<ResourceCounts> {
    let mut counts = None;
    for attribute in attributes {
        let a = attribute?;
        if a.kind == nl::RDMA_NLDEV_ATTR_RES_SUMMARY {
            let entries = a.nested().filter(|entry| {
                entry.as_ref().map_or(true, |e| e.kind == nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY)
            });
            counts = Some(entries.map(|entry| entry_of(entry?.nested())).collect::<Read<_>>()?);
        }
    }
    Ok(ResourceCounts(required(counts, nl::RDMA_NLDEV_ATTR_RES_SUMMARY)?))
}

fn entry_of(attributes: Attributes<'_>) -> Read<(String, u64)> {
    let (mut name, mut count) = (None, None);
    for attribute in attributes {
        let a = attribute?;
        match a.kind {
            nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME => name = Some(a.text()),
            nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_CURR => count = Some(a.u64()?),
            _ => {}
        }
    }
    Ok((
        required(name, nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME)?,
        required(count, nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_CURR)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [&(4 + value.len() as u16).to_ne_bytes()[..], &kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn entry(name: &str, count: u64) -> Vec<u8> {
        let inner = [
            attribute(nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_NAME, format!("{name}\0").as_bytes()),
            attribute(nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY_CURR, &count.to_ne_bytes()),
        ];
        attribute(nl::RDMA_NLDEV_ATTR_RES_SUMMARY_ENTRY, &inner.concat())
    }

    #[test]
    fn reads_the_table() {
        let table = attribute(
            nl::RDMA_NLDEV_ATTR_RES_SUMMARY,
            &[entry("pd", 1), attribute(999, b"new"), entry("qp", 2)].concat(),
        );
        let counts = read(Attributes::new(&table)).unwrap();
        assert_eq!(counts.iter().collect::<Vec<_>>(), [("pd", 1), ("qp", 2)]);
        assert_eq!((counts.get("qp"), counts.get("srq")), (Some(2), None));
    }

    #[test]
    fn a_table_that_ends_early_is_refused() {
        let table = attribute(nl::RDMA_NLDEV_ATTR_RES_SUMMARY, &entry("pd", 1)[..20]);
        assert!(read(Attributes::new(&table)).is_err());
        assert!(read(Attributes::new(&[])).is_err());
    }
}
