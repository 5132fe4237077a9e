//! Send and receive over a reliable connection, both ends in this process.
//!
//! ```text
//! cargo build --release --example rc_send_recv --target x86_64-unknown-linux-musl
//! cargo xtask vm -- target/x86_64-unknown-linux-musl/release/examples/rc_send_recv
//! ```
//!
//! On a machine that has a device: `rc_send_recv [DEVICE [GID-INDEX]]`; the first device and index 1 by default.

use std::error::Error;

use bareverbs::{Access, ConnectAttr, CqInit, Device, PortNum, QpInit, RecvWr, SendWr, Wait, Wc};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let device = match args.next() {
        Some(name) => Device::by_name(&name)?,
        None => Device::first()?,
    };
    let gid_index = args.next().map(|index| index.parse()).transpose()?.unwrap_or(1);

    let ctx = device.open()?;
    let pd = ctx.alloc_pd()?;
    let mut cq = ctx.create_cq(CqInit::new(16).own_channel())?;
    let mut source = pd.alloc_mr(4096, Access::empty())?;
    let target = pd.alloc_mr(4096, Access::LOCAL_WRITE)?;

    // Two queue pairs, connected to each other. Between processes, the endpoints travel over a socket.
    let mut left = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(4).max_recv_wr(4))?;
    let mut right = pd.create_qp(QpInit::rc(&cq, &cq).max_send_wr(4).max_recv_wr(4))?;
    let at_left = left.init_endpoint(PortNum::ONE, Some(gid_index))?;
    let at_right = right.init_endpoint(PortNum::ONE, Some(gid_index))?;
    left.connect(&at_right, ConnectAttr::new())?;
    right.connect(&at_left, ConnectAttr::new())?;

    let text = b"zero copy, kernel bypass";
    source.write(0, text);
    right.post_recv(RecvWr::new(1).sge(target.slice(..)))?;
    left.post_send(SendWr::send_with_imm(2, 42).sge(source.slice(..text.len())).signaled())?;

    let mut wcs = [Wc::default(); 4];
    let mut completed = 0;
    while completed < 2 {
        for wc in cq.wait(&mut wcs, Wait::default(), None)? {
            println!("wr {} {:?}: {}, {} bytes, {:?}", wc.wr_id, wc.opcode, wc.status, wc.byte_len, wc.extra);
            if !wc.is_success() {
                return Err(wc.status.to_string().into());
            }
            completed += 1;
        }
    }
    let mut received = vec![0; text.len()];
    target.read(0, &mut received);
    println!("received: {}", String::from_utf8_lossy(&received));
    Ok(())
}
