//! Memory regions: parts, addresses, huge pages, changes, and what a device lacks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use bareverbs::{Access, Context, Error, ErrorKind, Mr, MrInit, Rereg, SendWr, WcStatus};

use crate::support::{Loop, Noise, compare, completion, fill, is_rxe};

const ALL: Access = Access::LOCAL_WRITE.union(Access::REMOTE_READ).union(Access::REMOTE_WRITE);

/// Writes all of `from` to `to` from the left side, and takes the completion.
fn write(both: &mut Loop, from: &Mr, to: &Mr) -> WcStatus {
    let wr = SendWr::rdma_write(1, to.remote(0)).sge(from.slice(..)).signaled();
    both.left.post_send(wr).unwrap();
    completion(&mut both.left_cq).status
}

fn unsupported(error: &Error, words: &str) {
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// Four threads own a part each of one region, whose borders are aligned to nothing. They fill them at once, and a peer reads all of them.
#[test]
#[ignore = "needs a device"]
fn parts_are_filled_by_threads_and_sent() {
    let mut both = Loop::new();
    let target = both.region(30_000);
    let (a, rest) = both.region(30_000).split_at(4_099);
    let (b, rest) = rest.split_at(1);
    let (c, d) = rest.split_at(20_001);
    let threads: Vec<_> = [a, b, c, d]
        .into_iter()
        .enumerate()
        .map(|(n, mut part)| {
            thread::spawn(move || {
                let mut noise = Noise::new(n as u64);
                let bytes = (0..100).map(|_| fill(&mut part, &mut noise)).last().unwrap();
                compare(&part, &bytes).unwrap();
                (part, bytes)
            })
        })
        .collect();
    let parts: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let bytes: Vec<u8> = parts.iter().flat_map(|(_, bytes)| bytes.clone()).collect();

    // One request gathers from three parts, in order; another begins where they end.
    let mut parts = parts.into_iter().map(|(part, _)| part);
    let [a, b, c, d] = [(); 4].map(|()| parts.next().unwrap());
    let elements = [a.slice(..), b.slice(..), c.slice(..)];
    both.left.post_send(SendWr::rdma_write(1, target.remote(0)).sges(&elements).signaled()).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
    let there = target.remote(a.len() + b.len() + c.len());
    both.left.post_send(SendWr::rdma_write(2, there).sge(d.slice(..)).signaled()).unwrap();
    assert_eq!(completion(&mut both.left_cq).status, WcStatus::SUCCESS);
    compare(&target, &bytes).unwrap();

    let (a, c) = a.join(c).unwrap_err();
    let mut whole = a.join(b).unwrap().join(c).unwrap().join(d).unwrap();
    compare(&whole, &bytes).unwrap();
    whole.write(0, b"one owner again");
    whole.destroy().unwrap();
}

/// A part keeps the region: the last one deregisters it, and `destroy` says when there are others.
#[test]
#[ignore = "needs a device"]
fn the_last_part_deregisters() {
    let mut both = Loop::new();
    let target = both.region(4096);
    let before = crate::support::Resources::now();
    let (first, last) = both.region(8192).split_at(4096);
    assert_eq!(before.more("mr"), 1);
    let error = first.destroy().unwrap_err().to_string();
    assert!(error.ends_with("it is still used by other parts of the region"), "{error}");
    assert_eq!((before.more("mr"), write(&mut both, &last, &target)), (1, WcStatus::SUCCESS));
    last.destroy().unwrap();
    assert_eq!(before.more("mr"), 0);
    drop(both.region(8192).split_at(0));
    assert_eq!(before.more("mr"), 0);
}

#[test]
#[ignore = "needs a device"]
fn a_region_has_the_address_that_it_was_given() {
    const LENGTH: usize = 0x8_0000;
    let mut both = Loop::new();
    let mut source = both.region(LENGTH);
    let bytes = fill(&mut source, &mut Noise::new(1));
    // The lower bits of address and iova differ in many ways, and physical pages lie one after another now and then.
    for n in 0..16 {
        let iova = 0x10_0000 + n * 0x1000;
        let target = both.pd.reg_mr(MrInit::new(LENGTH).access(ALL).iova(iova)).unwrap();
        assert_eq!(
            (target.addr(), target.remote(7).addr, target.slice(9..).addr),
            (iova, iova + 7, iova + 9)
        );
        assert_ne!(target.as_ptr().addr() as u64, iova);
        assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
        compare(&target, &bytes).unwrap();
        // By its pointer too: nothing is being transferred.
        // SAFETY: byte 100 is within the region, and nobody writes it.
        #[allow(unsafe_code)]
        let byte = unsafe { target.as_ptr().add(100).read_volatile() };
        assert_eq!(byte, bytes[100]);
        let (_, upper) = target.split_at(4096);
        assert_eq!(upper.addr(), iova + 0x1000);
    }

    let refused = |iova| both.pd.reg_mr(MrInit::new(5000).iova(iova)).unwrap_err().to_string();
    let error = refused(0x10_0008);
    assert!(
        error.ends_with("the iova 0x100008 lies 8 bytes into a page and the memory 0: they must be equal"),
        "{error}"
    );
    let error = refused(0xffff_ffff_ffff_f000);
    assert!(error.ends_with("end beyond the address space"), "{error}");
}

/// The last huge page is used in part. Without reserved pages the error says how to reserve them.
#[test]
#[ignore = "needs a device"]
fn huge_pages_are_used_where_they_are_reserved() {
    const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
    const LENGTH: usize = (2 << 20) + 5000;
    let reserve = |pages: &str| std::fs::write(format!("{POOL}/nr_hugepages"), pages).unwrap();
    let free = || std::fs::read_to_string(format!("{POOL}/free_hugepages")).unwrap().trim().to_owned();
    let mut both = Loop::new();
    let init = || MrInit::new(LENGTH).access(ALL).huge_pages();
    reserve("0");
    let error = both.pd.reg_mr(init()).unwrap_err().to_string();
    assert!(error.contains("ENOMEM") && error.contains("echo 2 > /sys/kernel/mm/hugepages/"), "{error}");
    reserve("2");
    assert_eq!(free(), "2");
    let target = both.pd.reg_mr(init()).unwrap();
    assert_eq!((target.len(), target.as_ptr().addr() % (2 << 20), free()), (LENGTH, 0, "0".to_owned()));
    let mut source = both.region(LENGTH);
    let bytes = fill(&mut source, &mut Noise::new(3));
    assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
    compare(&target, &bytes).unwrap();
    drop(target);
    assert_eq!(free(), "2");
    reserve("0");
}

/// Where a change is refused the region stays as it is; else the change takes effect.
#[test]
#[ignore = "needs a device"]
fn rereg_changes_access_and_domain() {
    let mut both = Loop::new();
    let (source, mut target) = (both.region(4096), both.region(4096));
    assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
    if let Err(error) = target.rereg(Rereg::new().access(Access::LOCAL_WRITE | Access::REMOTE_READ)) {
        unsupported(&error, "has no such change of memory regions");
        assert!(is_rxe() && std::env::var("BAREVERBS_KERNEL").is_ok_and(|kernel| kernel == "6.1"), "{error}");
        assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
        return target.destroy().unwrap();
    }
    assert_eq!(write(&mut both, &source, &target), WcStatus::REM_ACCESS_ERR);

    // The queue pairs are in the error state: the next ones have a domain of their own, and the region moves there.
    let mut next = Loop::new_in(&both.ctx);
    let source = next.region(4096);
    target.rereg(Rereg::new().access(ALL).pd(&next.pd)).unwrap();
    assert_eq!(write(&mut next, &source, &target), WcStatus::SUCCESS);
    both.pd.destroy().unwrap_err();

    let error = target.rereg(Rereg::new().pd(&Loop::new().pd)).unwrap_err().to_string();
    assert!(error.contains("the protection domain belongs to another context"), "{error}");
    let (mut first, second) = target.split_at(1);
    let error = first.rereg(Rereg::new().access(ALL)).unwrap_err().to_string();
    assert!(error.contains("join them first"), "{error}");
    drop(second);
    first.rereg(Rereg::new().access(ALL)).unwrap();
}

/// Where a change is refused the region keeps its own memory.
#[test]
#[ignore = "needs a device"]
fn rereg_changes_memory_where_the_driver_can() {
    let mut both = Loop::new();
    let mut source = both.region(4096);
    let bytes = fill(&mut source, &mut Noise::new(5));
    let mut target = both.region(4096);
    target.write(0, &[7; 4096]);
    let old = (target.addr(), target.as_ptr());
    match target.rereg(Rereg::new().memory(MrInit::new(4096).iova(0x20_0000))) {
        Ok(()) => {
            assert!(!is_rxe());
            assert_eq!(target.addr(), 0x20_0000);
            compare(&target, &[0; 4096]).unwrap();
        }
        Err(error) => {
            assert!(is_rxe(), "{error}");
            unsupported(&error, "has no such change of memory regions");
            assert_eq!((target.addr(), target.as_ptr()), old);
            compare(&target, &[7; 4096]).unwrap();
        }
    }
    assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
    compare(&target, &bytes).unwrap();
    target.destroy().unwrap();
}

/// Neither rxe nor mlx4 imports dma-bufs or has implicit on-demand paging.
#[test]
#[ignore = "needs a device"]
fn what_the_driver_lacks_is_said() {
    let both = Loop::new();
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let error = both.pd.reg_dmabuf_mr(std::os::fd::AsFd::as_fd(&file), 0, 4096, 0, ALL).unwrap_err();
    unsupported(&error, "this device's driver has no import of dma-bufs");
    // SAFETY: nothing is registered.
    #[allow(unsafe_code)]
    let error = unsafe { both.pd.reg_implicit_mr(ALL) }.unwrap_err();
    unsupported(&error, "this device's driver has no implicit on-demand paging");
}

fn has_odp(ctx: &Context) -> bool {
    ctx.query_device().unwrap().odp.general & 1 != 0
}

/// rxe pages on demand since 6.16.
#[test]
#[ignore = "needs a device"]
fn ranges_of_on_demand_regions_are_prefetched() {
    let mut both = Loop::new();
    let made = both.pd.alloc_mr(100_000, ALL | Access::ON_DEMAND);
    if !has_odp(&both.ctx) {
        made.unwrap_err();
        return;
    }
    let target = made.unwrap();
    let (target, rest) = target.split_at(50_000);
    if std::env::var("BAREVERBS_ABI").is_ok_and(|encoding| encoding == "write") {
        // There is no legacy command for it.
        return unsupported(&target.prefetch(..).unwrap_err(), "has no advice on memory regions");
    }
    target.prefetch(100..30_000).unwrap();
    target.prefetch(..0).unwrap();
    rest.prefetch(..).unwrap();
    let mut source = both.region(50_000);
    let bytes = fill(&mut source, &mut Noise::new(9));
    assert_eq!(write(&mut both, &source, &target), WcStatus::SUCCESS);
    compare(&target, &bytes).unwrap();
}

/// Names of bytes outside a region, or a part, are not given out.
#[test]
#[ignore = "needs a device"]
fn offsets_and_lengths_are_checked() {
    let both = Loop::new();
    let (mut part, _rest) = both.region(8192).split_at(100);
    let panics = |what: &str, call: &mut dyn FnMut()| {
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "{what} did not panic");
    };
    panics("slice", &mut || _ = part.slice(50..101));
    let (after, before) = (60, 50);
    panics("slice backwards", &mut || _ = part.slice(after..before));
    panics("remote", &mut || _ = part.remote(101));
    panics("prefetch", &mut || _ = part.prefetch(..101));
    panics("read", &mut || part.read(99, &mut [0; 2]));
    panics("write", &mut || part.write(99, &[0; 2]));
    panics("write far out", &mut || part.write(usize::MAX, &[0; 2]));
    assert_eq!(
        (part.slice(..).length, part.slice(100..).length, part.remote(100).addr),
        (100, 0, part.addr() + 100)
    );
    panics("split", &mut || _ = both.region(10).split_at(11));
}
