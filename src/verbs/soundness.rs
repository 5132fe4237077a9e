//! Programs that must not compile, each beside one that must and differs from it in as little as can be.
//!
//! They are doc tests, so they need no dependency and know this crate as its users do. An error code is only checked
//! by a nightly toolchain (`cargo +nightly test --doc soundness`); on stable a program that fails for another reason
//! would pass, which is what its neighbour that compiles is there to show. The words of the compiler's messages are not
//! compared: they change from release to release.
//!
//! # A completion queue has one owner
//!
//! ```
//! fn poll(cq: &mut bareverbs::Cq, wcs: &mut [bareverbs::Wc]) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| cq.poll(wcs).len());
//!     });
//! }
//! ```
//! ```compile_fail,E0499
//! fn poll(cq: &mut bareverbs::Cq, wcs: &mut [bareverbs::Wc], more: &mut [bareverbs::Wc]) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| cq.poll(wcs).len());
//!         threads.spawn(|| cq.poll(more).len());
//!     });
//! }
//! ```
//! ```compile_fail,E0596
//! fn poll(cq: &bareverbs::Cq, wcs: &mut [bareverbs::Wc]) {
//!     cq.poll(wcs);
//! }
//! ```
//! ```compile_fail,E0277
//! fn second_owner(cq: &bareverbs::Cq) -> bareverbs::Cq {
//!     <bareverbs::Cq as Clone>::clone(cq)
//! }
//! ```
//!
//! # A completion queue is polled by one thread while another creates queue pairs on it, by a handle that cannot poll
//!
//! ```
//! fn accept(mut cq: bareverbs::Cq, pd: bareverbs::Pd, mut wcs: [bareverbs::Wc; 8]) {
//!     let handle = cq.handle();
//!     std::thread::spawn(move || cq.poll(&mut wcs).len());
//!     std::thread::spawn(move || pd.create_qp(bareverbs::QpInit::rc(&handle, &handle)).is_ok());
//! }
//! ```
//! ```compile_fail,E0502
//! fn accept(cq: &mut bareverbs::Cq, pd: bareverbs::Pd, wcs: &mut [bareverbs::Wc]) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| cq.poll(wcs).len());
//!         threads.spawn(|| pd.create_qp(bareverbs::QpInit::rc(&*cq, &*cq)).is_ok());
//!     });
//! }
//! ```
//! ```compile_fail,E0599
//! fn poll(mut handle: bareverbs::CqHandle, wcs: &mut [bareverbs::Wc]) {
//!     handle.poll(wcs);
//! }
//! ```
//! ```compile_fail,E0599
//! fn post(mut handle: bareverbs::SrqHandle, recv: bareverbs::RecvWr<'static>) {
//!     let _ = handle.post_recv(recv);
//! }
//! ```
//!
//! # A queue pair has one owner, or one for each half
//!
//! ```
//! fn post(qp: bareverbs::Qp, send: bareverbs::SendWr<'static>, recv: bareverbs::RecvWr<'static>) {
//!     let (mut sends, mut recvs) = qp.into_split();
//!     std::thread::spawn(move || sends.post_send(send).is_ok());
//!     std::thread::spawn(move || recvs.post_recv(recv).is_ok());
//! }
//! ```
//! ```compile_fail,E0499
//! fn post(qp: &mut bareverbs::Qp, send: bareverbs::SendWr<'static>) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| qp.post_send(send).is_ok());
//!         threads.spawn(|| qp.post_send(send).is_ok());
//!     });
//! }
//! ```
//! ```compile_fail,E0382
//! fn halves(mut qp: bareverbs::Qp, send: bareverbs::SendWr<'static>) {
//!     let (mut sends, _) = qp.into_split();
//!     let _ = qp.post_send(send);
//!     let _ = sends.post_send(send);
//! }
//! ```
//! ```compile_fail,E0599
//! fn modify(sends: &mut bareverbs::SendQueue, attr: &bareverbs::QpAttr) {
//!     let _ = sends.modify(attr);
//! }
//! ```
//!
//! # A shared receive queue has one owner, however many queue pairs take from it
//!
//! ```
//! fn post(srq: &mut bareverbs::Srq, recv: bareverbs::RecvWr<'static>) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| srq.post_recv(recv).is_ok());
//!     });
//! }
//! ```
//! ```compile_fail,E0499
//! fn post(srq: &mut bareverbs::Srq, recv: bareverbs::RecvWr<'static>) {
//!     std::thread::scope(|threads| {
//!         threads.spawn(|| srq.post_recv(recv).is_ok());
//!         threads.spawn(|| srq.post_recv(recv).is_ok());
//!     });
//! }
//! ```
//! ```compile_fail,E0596
//! fn post(srq: &bareverbs::Srq, recv: bareverbs::RecvWr<'static>) {
//!     let _ = srq.post_recv(recv);
//! }
//! ```
//!
//! # Halves are joined by value, so the whole is of one queue pair
//!
//! ```
//! fn joined(sends: bareverbs::SendQueue, recvs: bareverbs::RecvQueue) -> Option<bareverbs::Qp> {
//!     match bareverbs::Qp::join(sends, recvs) {
//!         Ok(qp) => Some(qp),
//!         Err(error) => {
//!             let (_sends, _recvs) = error.into_halves();
//!             None
//!         }
//!     }
//! }
//! ```
//! ```compile_fail,E0382
//! fn joined(sends: bareverbs::SendQueue, recvs: bareverbs::RecvQueue, send: bareverbs::SendWr<'static>) {
//!     let qp = bareverbs::Qp::join(sends, recvs);
//!     let _ = sends.post_send(send);
//!     drop(qp);
//! }
//! ```
//! ```compile_fail,E0616
//! fn exchanged(left: &mut bareverbs::Qp, right: &mut bareverbs::Qp) {
//!     std::mem::swap(&mut left.recv, &mut right.recv);
//! }
//! ```
//!
//! # Registered memory is copied and never lent
//!
//! ```
//! fn copy(mr: &mut bareverbs::Mr) -> [u8; 4] {
//!     let mut bytes = [0; 4];
//!     mr.write(0, &bytes);
//!     mr.read(0, &mut bytes);
//!     bytes
//! }
//! ```
//! ```compile_fail,E0608
//! fn index(mr: &bareverbs::Mr) -> &u8 {
//!     &mr[0]
//! }
//! ```
//! ```compile_fail,E0308
//! fn deref(mr: &bareverbs::Mr) -> &[u8] {
//!     mr
//! }
//! ```
//! ```compile_fail,E0277
//! fn lent(mr: &bareverbs::Mr) -> impl AsRef<[u8]> + '_ {
//!     mr
//! }
//! ```
//! ```compile_fail,E0596
//! fn write(mr: &bareverbs::Mr) {
//!     mr.write(0, &[1]);
//! }
//! ```
//!
//! # Memory of one's own is registered with a promise
//!
//! ```
//! fn register(pd: &bareverbs::Pd, bytes: &'static mut [u8]) -> bareverbs::Result<bareverbs::Mr> {
//!     let base = std::ptr::NonNull::from(&mut *bytes).cast();
//!     // SAFETY: nobody else can name these bytes any more.
//!     unsafe { pd.register_mr(base, 16, bareverbs::Access::LOCAL_WRITE) }
//! }
//! ```
//! ```compile_fail,E0133
//! fn register(pd: &bareverbs::Pd, bytes: &'static mut [u8]) -> bareverbs::Result<bareverbs::Mr> {
//!     let base = std::ptr::NonNull::from(&mut *bytes).cast();
//!     pd.register_mr(base, 16, bareverbs::Access::LOCAL_WRITE)
//! }
//! ```
//!
//! # What a request points to lives until it is posted
//!
//! ```
//! fn inline(qp: &mut bareverbs::Qp) {
//!     let bytes = vec![1, 2, 3];
//!     let _ = qp.post_send(bareverbs::SendWr::send(1).inline(&bytes));
//!     drop(bytes);
//! }
//! ```
//! ```compile_fail,E0505
//! fn inline(qp: &mut bareverbs::Qp) {
//!     let bytes = vec![1, 2, 3];
//!     let wr = bareverbs::SendWr::send(1).inline(&bytes);
//!     drop(bytes);
//!     let _ = qp.post_send(wr);
//! }
//! ```
//! ```compile_fail,E0597
//! fn elements(qp: &mut bareverbs::Qp, mr: &bareverbs::Mr) {
//!     let wr = {
//!         let sges = [mr.slice(..), mr.slice(..)];
//!         bareverbs::RecvWr::new(1).sges(&sges)
//!     };
//!     let _ = qp.post_recv(wr);
//! }
//! ```
//!
//! ```
//! fn datagram(qp: &mut bareverbs::Qp, ah: bareverbs::Ah) {
//!     let to = (bareverbs::Qpn::default(), bareverbs::Qp::DEFAULT_QKEY);
//!     let _ = qp.post_send(bareverbs::SendWr::send(1).ud_addr(&ah, to.0, to.1));
//!     drop(ah);
//! }
//! ```
//! ```compile_fail,E0505
//! fn datagram(qp: &mut bareverbs::Qp, ah: bareverbs::Ah) {
//!     let to = (bareverbs::Qpn::default(), bareverbs::Qp::DEFAULT_QKEY);
//!     let wr = bareverbs::SendWr::send(1).ud_addr(&ah, to.0, to.1);
//!     drop(ah);
//!     let _ = qp.post_send(wr);
//! }
//! ```
//!
//! # Whoever reads events keeps the context open, and a borrowed descriptor keeps its owner
//!
//! ```
//! fn events(ctx: bareverbs::Context) -> bareverbs::Result<()> {
//!     let events = ctx.async_events()?;
//!     drop(ctx);
//!     std::thread::spawn(move || events.next_event().is_ok());
//!     Ok(())
//! }
//! ```
//! ```compile_fail,E0505
//! fn descriptor(channel: bareverbs::CompChannel) {
//!     use std::os::fd::AsFd;
//!     let fd = channel.as_fd();
//!     drop(channel);
//!     let _ = fd.try_clone_to_owned();
//! }
//! ```
//!
//! # What is destroyed is gone
//!
//! ```
//! fn once(cq: bareverbs::Cq) {
//!     let _ = cq.destroy();
//! }
//! ```
//! ```compile_fail,E0382
//! fn twice(cq: bareverbs::Cq) {
//!     let _ = cq.destroy();
//!     let _ = cq.destroy();
//! }
//! ```
//! ```compile_fail,E0382
//! fn read_after(mr: bareverbs::Mr) {
//!     let _ = mr.destroy();
//!     mr.read(0, &mut []);
//! }
//! ```
