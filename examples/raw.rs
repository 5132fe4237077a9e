//! The way down: the same questions by the library, by raw ioctl attributes, and by raw legacy commands; and an object of the
//! library named in a command of our own.
//!
//! ```text
//! cargo build --release --example raw --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/raw
//! ```

#![allow(unsafe_code)] // raw commands

mod support;

use std::os::fd::AsRawFd;

use bareverbs::raw::{Ioctl, Legacy};
use bareverbs::{Context, CqInit, Gid, PortNum, QpInit, raw};
use support::Outcome;

/// `rdma/ib_user_ioctl_cmds.h`
const UVERBS_OBJECT_DEVICE: u16 = 0;
const UVERBS_METHOD_QUERY_GID_TABLE: u16 = 5;
const UVERBS_ATTR_QUERY_GID_TABLE_ENTRY_SIZE: u16 = 0;
const UVERBS_ATTR_QUERY_GID_TABLE_FLAGS: u16 = 1;
const UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES: u16 = 2;
const UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES: u16 = 3;

/// `rdma/ib_user_verbs.h`
const IB_USER_VERBS_CMD_QUERY_PORT: u32 = 2;
const IB_USER_VERBS_CMD_QUERY_QP: u32 = 25;
const IB_USER_VERBS_EX_CMD_QUERY_DEVICE: u32 = 1;

/// `struct ib_uverbs_gid_entry`
const GID_ENTRY: usize = 32;

fn main() -> Outcome {
    let (ctx, _) = support::device()?;
    gid_table(&ctx)?;
    port(&ctx)?;
    device(&ctx)?;
    queue_pair(&ctx)?;
    // What neither form can say goes by the descriptor itself, as does mapping the device's pages.
    // SAFETY: nothing is sent by it.
    println!("the command descriptor is {}", unsafe { raw::cmd_fd(&ctx) }.as_raw_fd());
    Ok(())
}

/// The GID table, which only the ioctl can give.
fn gid_table(ctx: &Context) -> Outcome {
    let room = usize::try_from(ctx.query_port(PortNum::ONE)?.gid_tbl_len)?;
    let mut entries = vec![0; room * GID_ENTRY];
    let mut count = [0; 8];
    let query = Ioctl::new(UVERBS_OBJECT_DEVICE, UVERBS_METHOD_QUERY_GID_TABLE)
        .constant(UVERBS_ATTR_QUERY_GID_TABLE_ENTRY_SIZE, GID_ENTRY as u64)
        .constant(UVERBS_ATTR_QUERY_GID_TABLE_FLAGS, 0)
        .output(UVERBS_ATTR_QUERY_GID_TABLE_RESP_ENTRIES, &mut entries)
        .output(UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES, &mut count);
    // SAFETY: a question, whose addresses are those of the two outputs.
    let answer = unsafe { query.send(ctx) }?;
    if !answer.written(UVERBS_ATTR_QUERY_GID_TABLE_RESP_NUM_ENTRIES) {
        return Err("the kernel did not say how many entries there are".into());
    }
    let count = usize::try_from(u64::from_ne_bytes(count))?;
    let mut table = Vec::new();
    for entry in entries.chunks_exact(GID_ENTRY).take(count) {
        let (gid, rest) = entry.split_first_chunk::<16>().ok_or("a short entry")?;
        let (index, _) = rest.split_first_chunk::<4>().ok_or("a short entry")?;
        table.push((u32::from_ne_bytes(*index), Gid(*gid)));
    }
    println!("GID table by ioctl: {table:?}");
    let expected: Vec<_> =
        ctx.query_gids(PortNum::ONE)?.iter().map(|entry| (entry.index, entry.gid)).collect();
    same("GID table", &table, &expected)
}

/// A port's state by a legacy command, whose structure begins with the address that the library fills in.
fn port(ctx: &Context) -> Outcome {
    let (mut command, mut answer) = ([0; 16], [0; 40]);
    command[8] = PortNum::ONE.get();
    let query = Legacy::new(IB_USER_VERBS_CMD_QUERY_PORT, &command).answer(&mut answer);
    // SAFETY: a question, whose only address is that of the answer.
    unsafe { query.send(ctx) }?;
    let length = u32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    println!("port 1 by legacy command: state {}, {length} GIDs", answer[26]);
    same("GID table's length", &length, &ctx.query_port(PortNum::ONE)?.gid_tbl_len)
}

/// The device by an extended command, which has no such address in its structure.
fn device(ctx: &Context) -> Outcome {
    let mut answer = [0; 304];
    let query =
        Legacy::new(IB_USER_VERBS_EX_CMD_QUERY_DEVICE | Legacy::EXTENDED, &[0; 8]).answer(&mut answer);
    // SAFETY: as above.
    unsafe { query.send(ctx) }?;
    let guid = answer[8..16].to_vec();
    println!("node GUID by extended command: {guid:02x?}");
    same("node GUID", &guid, &ctx.query_device()?.node_guid.0.to_vec())
}

/// A queue pair of the library, by its handle.
fn queue_pair(ctx: &Context) -> Outcome {
    const IB_QP_STATE: u32 = 1;
    let cq = ctx.create_cq(CqInit::new(4))?;
    let mut qp = ctx.alloc_pd()?.create_qp(QpInit::rc(&cq, &cq))?;
    for expected in [0, 1] {
        let mut command = [0; 16];
        command[8..12].copy_from_slice(&raw::handle(&qp).to_ne_bytes());
        command[12..].copy_from_slice(&IB_QP_STATE.to_ne_bytes());
        let mut answer = [0; 128];
        let query = Legacy::new(IB_USER_VERBS_CMD_QUERY_QP, &command).answer(&mut answer);
        // SAFETY: as above.
        unsafe { query.send(ctx) }?;
        // struct ib_uverbs_query_qp_resp: two paths of 32 bytes, ten numbers of 4, two of 2, then bytes.
        let state = answer[108];
        println!("QP {} (handle {}): state {state}", qp.qp_num(), raw::handle(&qp));
        same("state", &state, &expected)?;
        qp.init(PortNum::ONE, bareverbs::Access::empty())
            .or_else(|e| if expected == 1 { Ok(()) } else { Err(e) })?;
    }
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, raw: &T, library: &T) -> Outcome {
    if raw == library {
        Ok(())
    } else {
        Err(format!("{what}: {raw:?} raw, {library:?} by the library").into())
    }
}
