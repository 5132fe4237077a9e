use super::*;
use crate::uapi::netlink::{
    RDMA_NLDEV_ATTR_DEV_INDEX, RDMA_NLDEV_ATTR_DEV_NAME, RDMA_NLDEV_ATTR_NODE_GUID, RDMA_NLDEV_CMD_GET,
};

/// A small generator with a seed, so that a failure can be repeated (xorshift64*).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

#[test]
fn a_request_is_what_the_kernel_reads() {
    let mut request = Request::new(RDMA_NLDEV_CMD_GET, 0x300)
        .u32(RDMA_NLDEV_ATTR_DEV_INDEX, 0x0102_0304)
        .string(RDMA_NLDEV_ATTR_DEV_NAME, "rxe0");
    let bytes = request.numbered(7);
    let ne16 = u16::to_ne_bytes;
    let ne32 = u32::to_ne_bytes;
    let expected = [
        &ne32(36)[..],
        &ne16(5 << 10 | 1),
        &ne16(0x301),
        &ne32(7),
        &ne32(0),
        // number
        &ne16(8),
        &ne16(1),
        &ne32(0x0102_0304),
        // string, its NUL, and three bytes up to the next multiple of four
        &ne16(9),
        &ne16(2),
        b"rxe0\0\0\0\0",
    ]
    .concat();
    assert_eq!(bytes, expected);
}

#[test]
fn what_was_built_is_read_back() {
    let mut request = Request::new(RDMA_NLDEV_CMD_GET, 0)
        .string(RDMA_NLDEV_ATTR_DEV_NAME, "mlx4_0")
        .u32(RDMA_NLDEV_ATTR_DEV_INDEX, 9);
    let bytes = [request.numbered(3).to_vec(), request.numbered(4).to_vec()].concat();
    let messages: Vec<_> = Messages::new(&bytes).collect::<Read<_>>().unwrap();
    assert_eq!(messages.iter().map(|m| m.sequence).collect::<Vec<_>>(), [3, 4]);
    let attributes: Vec<_> = Attributes::new(messages[1].payload).collect::<Read<_>>().unwrap();
    assert_eq!(attributes[0].text(), "mlx4_0");
    assert_eq!(attributes[1].u32(), Ok(9));
}

#[test]
fn a_nest_is_read_with_its_flag_bit_off() {
    let inner = Request::new(0, 0).u32(18, 5).0[16..].to_vec();
    let len = (4 + inner.len()) as u16;
    let bytes = [&len.to_ne_bytes()[..], &(NLA_F_NESTED | 16).to_ne_bytes(), &inner].concat();
    let nest = Attributes::new(&bytes).next().unwrap().unwrap();
    assert_eq!(nest.kind, 16);
    assert_eq!(nest.nested().next().unwrap().unwrap().u32(), Ok(5));
}

#[test]
fn lengths_that_lie_are_told_and_end_it() {
    let reason = |bytes: &[u8]| {
        let mut attributes = Attributes::new(bytes);
        let first = attributes.next().unwrap();
        assert!(first.is_err() && attributes.next().is_none());
        first.unwrap_err().0.into_owned()
    };
    let ne = |len: u16, kind: u16| [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    assert_eq!(
        reason(&ne(40, RDMA_NLDEV_ATTR_NODE_GUID)),
        "RDMA_NLDEV_ATTR_NODE_GUID says 40 bytes where 4 are left"
    );
    // A length below the header's own would never advance.
    assert_eq!(reason(&ne(0, 0x1234)), "attribute 4660 says 0 bytes where 4 are left");
    assert_eq!(reason(&[1, 2, 3]), "3 stray bytes after an attribute");

    let mut short = Request::new(0, 0).0;
    short[0] = 15;
    let mut messages = Messages::new(&short);
    assert!(messages.next().unwrap().is_err() && messages.next().is_none());
}

#[test]
fn a_text_ends_at_its_nul_or_at_its_end() {
    let text = |value| Attribute { kind: 2, value }.text();
    assert_eq!(text(b"rxe0\0junk"), "rxe0");
    assert_eq!(text(b"rxe0"), "rxe0");
    assert_eq!(text(b""), "");
    assert_eq!(text(b"r\xffe\0"), "r\u{fffd}e");
}

/// Everything that reads, on one datagram.
fn read_all(bytes: &[u8]) {
    fn attributes(bytes: Attributes<'_>, depth: usize) {
        for attribute in bytes.flatten() {
            let _ = (attribute.u8(), attribute.u32(), attribute.u64(), attribute.text());
            if depth > 0 {
                attributes(attribute.nested(), depth - 1);
            }
        }
    }
    for message in Messages::new(bytes).flatten() {
        attributes(Attributes::new(message.payload), 3);
    }
    attributes(Attributes::new(bytes), 3);
}

#[test]
fn no_bytes_make_it_panic_or_hang() {
    let mut seeded = Seeded(0x9e37_79b9_7f4a_7c15);
    let mut good = Request::new(RDMA_NLDEV_CMD_GET, 0)
        .u32(RDMA_NLDEV_ATTR_DEV_INDEX, 1)
        .string(RDMA_NLDEV_ATTR_DEV_NAME, "rxe0")
        .string(17, "a longer one than that");
    let good = good.numbered(1).to_vec();
    for len in 0..=good.len() {
        read_all(&good[..len]);
    }
    for _ in 0..20_000 {
        // A good message with a few bytes changed and its end cut off...
        let mut bytes = good.clone();
        for _ in 0..seeded.below(5) {
            let at = seeded.below(bytes.len());
            bytes[at] = seeded.next() as u8;
        }
        bytes.truncate(seeded.below(good.len() + 1));
        read_all(&bytes);
        // ...and noise, with many small numbers since lengths are small.
        let noise: Vec<u8> = (0..seeded.below(96))
            .map(|_| (seeded.next() as u8) & [0xff, 0x07, 0x1f, 0x00][seeded.below(4)])
            .collect();
        read_all(&noise);
    }
}
