//! Reserved fields of request segments: each bit is checked.

use super::super::{
    qpc::Kind,
    wqe::{self, opcode},
};
use crate::be::{get32, put32};

const ALL: u32 = u32::MAX;
const CONTROL: usize = 16;
const ELEMENT: [u8; 16] = [0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A request whose segments are `segments` behind the control segment.
fn request(opcode: u8, segments: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; CONTROL];
    bytes.extend(segments);
    bytes[3] = opcode;
    bytes[7] = (bytes.len() / 16) as u8;
    bytes
}

/// Checks that the request is valid, and is not with any bit set in the words at these offsets.
fn reserved(kind: Kind, bytes: &[u8], words: &[(usize, u32)]) {
    let qpn = 0x41;
    wqe::send(kind, qpn, 0, bytes).unwrap();
    for (at, mask) in words {
        for bit in (0..32).filter(|bit| mask >> bit & 1 == 1) {
            let mut set = bytes.to_vec();
            put32(&mut set, *at, get32(bytes, *at) | 1 << bit);
            assert!(wqe::send(kind, qpn, 0, &set).is_err(), "bit {bit} at byte {at:#x} of {bytes:x?}");
        }
    }
}

/// `struct mlx4_wqe_ctrl_seg`.
#[test]
fn reserved_bits_of_the_control_segment() {
    let nop = request(opcode::NOP, &[]);
    // Completions are requested by both bits or by none.
    reserved(Kind::Rc, &nop, &[(0, 0x4700_00a0), (4, 0x80), (8, 0xffff_ff7c)]);
    reserved(Kind::Ud, &nop, &[(0, 0x4700_00a0), (4, 0x80), (8, 0xffff_ff4c)]);
    // For XRC this is the shared receive queue.
    reserved(Kind::Xrc, &nop, &[(8, 0x7c)]);
}

/// `struct mlx4_wqe_raddr_seg`, `struct mlx4_wqe_atomic_seg`.
#[test]
fn reserved_bits_of_rdma_and_atomic_segments() {
    let write = request(opcode::WRITE, &[[0; 16], ELEMENT].concat());
    reserved(Kind::Rc, &write, &[(CONTROL + 12, ALL)]);
    let add = request(opcode::FETCH_ADD, &[[0; 16], [0; 16], ELEMENT].concat());
    reserved(Kind::Rc, &add, &[(CONTROL + 12, ALL), (CONTROL + 24, ALL), (CONTROL + 28, ALL)]);
    let swap = request(opcode::COMPARE_SWAP, &[[0; 16], [0xff; 16], ELEMENT].concat());
    reserved(Kind::Rc, &swap, &[(CONTROL + 12, ALL)]);
}

/// `struct mlx4_wqe_bind_seg`, `struct mlx4_wqe_fmr_seg`, `struct mlx4_wqe_local_inval_seg`.
#[test]
fn reserved_bits_of_bind_register_and_invalidate_segments() {
    let bind = request(opcode::BIND, &[0; 32]);
    reserved(Kind::Rc, &bind, &[(CONTROL, 0x1fff_ffff), (CONTROL + 4, 0x3fff_ffff)]);
    let mut register = request(opcode::FAST_REGISTER, &[0; 48]);
    register[CONTROL + 39] = 12;
    let words = [(0, 0x07ff_ffff), (32, ALL), (40, ALL), (44, ALL)];
    reserved(Kind::Rc, &register, &words.map(|(at, mask)| (CONTROL + at, mask)));
    let invalidate = request(opcode::INVALIDATE, &[0; 32]);
    let words = [0, 4, 12, 16, 20, 24, 28].map(|at| (CONTROL + at, ALL));
    reserved(Kind::Rc, &invalidate, &words);
}

/// `struct mlx4_wqe_datagram_seg`. Its last 8 bytes are Ethernet's; libmlx4 leaves there on InfiniBand what it finds in
/// its own memory (`mlx4_create_ah`).
#[test]
fn reserved_bits_of_datagram_segments() {
    let mut datagram = [0; 48];
    datagram[40..].fill(0xa5);
    let send = request(opcode::SEND, &[&datagram[..], &ELEMENT].concat());
    let words = [(4, 0xff00_0000), (8, 0xff00_0000), (32, 0xff00_0000)];
    reserved(Kind::Ud, &send, &words.map(|(at, mask)| (CONTROL + at, mask)));
}
