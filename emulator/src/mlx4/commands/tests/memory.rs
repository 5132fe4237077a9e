//! Memory from the driver: mailboxes, ICM, and the tables in it.

use super::*;

#[test]
fn mailboxes_outside_memory_are_refused() {
    let mut hca = card(Model::ConnectX3);
    for wrong in [MEMORY, MEMORY - 8, u64::MAX - 15] {
        assert_eq!(hca.command(&Command { out_param: wrong, ..command("QUERY_FW") }), Err(Status::BadParam));
        assert_eq!(
            hca.command(&Command { in_param: wrong, modifier: 1, ..command("MAP_FA") }),
            Err(Status::BadParam)
        );
    }
    assert_eq!(hca.card.violations.count(), 6);
    assert_eq!(hca.map("MAP_FA", 0, MEMORY - 4096, 1), Err(Status::BadParam), "not aligned to its size");
    assert_eq!(hca.map("MAP_FA", 0, MEMORY, 0), Err(Status::BadParam), "not in memory");
    assert_eq!(hca.map("MAP_FA", 0, 0, 60), Err(Status::BadParam));
}

#[test]
fn init_hca_sets_the_tables() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let tables = hca.card.tables;
    assert_eq!((tables.dmpt_base, tables.mtt_base, tables.mc_base), (0x40_0000, 0x80_0000, 0x60_0000));
    assert_eq!((tables.log_qps, tables.log_srqs, tables.log_cqs, tables.log_mpts), (12, 10, 10, 14));
    assert_eq!((tables.log_mc_entry, tables.log_mc_hash, tables.log_mc_table), (10, 9, 10));
    assert!(tables.cqe64 && tables.eqe64 && tables.windows);
    let out = hca.ask("QUERY_HCA", 0, &[]).unwrap();
    assert_eq!(get64(&out, 0xf0), 0x40_0000);
    assert_eq!(get16(&out, 0x0c), 427, "QUERY_HCA_CORE_CLOCK_OFFSET");
    assert_eq!(hca.ask("INIT_HCA", 0, &init_hca(true)), Err(Status::BadSysState), "once only");
    hca.command(&command("CLOSE_HCA")).unwrap();
    let mut wrong = init_hca(false);
    put64(&mut wrong, 0x100, 1 << 30);
    assert_eq!(hca.ask("INIT_HCA", 0, &wrong), Err(Status::IcmError), "no MTT table");
    hca.ask("INIT_HCA", 0, &init_hca(false)).unwrap();
    assert!(!hca.card.tables.cqe64 && !hca.card.tables.eqe64);
}

/// An entry as mr.c's `mlx4_mr_enable` fills it.
fn mpt(index: u32) -> [u8; 64] {
    let mut entry = [0; 64];
    put32(&mut entry, 0x00, 0xf << 28 | 1 << 17 | 1 << 8 | 1 << 10);
    put32(&mut entry, 0x08, 0x5500_0000 | index);
    put32(&mut entry, 0x0c, 7 | 3 << 24);
    put64(&mut entry, 0x10, 0x7fff_0000);
    put64(&mut entry, 0x18, 0x3000);
    put64(&mut entry, 0x2c, 0x80);
    put32(&mut entry, 0x38, 12);
    entry
}

#[test]
fn memory_protection_entries_change_their_owner() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.ask("SW2HW_MPT", 0x20, &mpt(0x20)).unwrap();
    // In ICM, owned by the card. ICM address 0 is mapped to 16 MiB.
    let at = (16 << 20) + 0x40_0000 + 0x20 * 64;
    assert_eq!(hca.card.memory.array::<64>(at).unwrap()[0], 0);
    assert_eq!(hca.card.memory.array::<64>(at).unwrap()[1..], mpt(0x20)[1..]);
    assert_eq!(hca.ask("QUERY_MPT", 0x20, &[]).unwrap()[..64], hca.card.memory.array::<64>(at).unwrap());
    assert_eq!(hca.ask("SW2HW_MPT", 0x20, &mpt(0x20)), Err(Status::BadResState));
    assert_eq!(hca.ask("SW2HW_MPT", 0x21, &mpt(0x20)), Err(Status::BadParam), "another's key");
    assert_eq!(hca.ask("SW2HW_MPT", 1 << 14, &mpt(1 << 14)), Err(Status::BadIndex));
    assert_eq!(hca.ask("SW2HW_MPT", 3, &mpt(3)), Err(Status::BadResource), "reserved");
    // In-place change, as for rereg_mr.
    let out = hca.ask("HW2SW_MPT", 0x20, &[]).unwrap();
    assert_eq!(out[0] & 0xf0, 0xf0);
    assert_eq!(hca.ask("HW2SW_MPT", 0x20, &[]), Err(Status::BadResState));
    hca.card.memory.write(at, &[0]).unwrap();
    hca.command(&command("SYNC_TPT")).unwrap();
    // A bound window keeps the region.
    hca.card.memory.write(at + 0x24, &[0, 0, 0, 1]).unwrap();
    assert_eq!(hca.ask("HW2SW_MPT", 0x20, &[]), Err(Status::RegBound));
    hca.card.memory.write(at + 0x24, &[0; 4]).unwrap();
    hca.ask("HW2SW_MPT", 0x20, &[]).unwrap();
    assert_eq!(hca.ask("HW2SW_MPT", 0x30, &[]), Err(Status::BadResState), "never given");
}

#[test]
fn write_mtt_writes_icm() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    let mut list = [0; 32];
    put64(&mut list, 0, 5);
    put64(&mut list, 16, 0x1234_5001);
    put64(&mut list, 24, 0x1234_6001);
    hca.ask("WRITE_MTT", 2, &list).unwrap();
    let at = (16 << 20) + 0x80_0000 + 5 * 8;
    assert_eq!(hca.card.memory.array::<16>(at).unwrap(), list[16..32]);
    assert_eq!(hca.ask("WRITE_MTT", 1000, &list), Err(Status::BadParam));
    put64(&mut list, 0, 1 << 40);
    assert_eq!(hca.ask("WRITE_MTT", 2, &list), Err(Status::IcmError));
}

#[test]
fn multicast_entries_are_in_icm() {
    let mut hca = card(Model::ConnectX3);
    // The driver's memory need not be zeroed.
    hca.card.memory.write((16 << 20) + 0x60_0000, &[0xff; 0x1_0000]).unwrap();
    hca.start();
    let mut entry = vec![0; 1024];
    assert_eq!(hca.ask("READ_MCG", 3, &[]).unwrap()[..1024], entry);
    entry[0x10..0x20].fill(0xff);
    hca.ask("WRITE_MCG", 3, &entry).unwrap();
    assert_eq!(hca.ask("READ_MCG", 3, &[]).unwrap()[..1024], entry);
    assert_eq!(hca.ask("READ_MCG", 1 << 10, &[]), Err(Status::BadIndex));
    hca.card.memory.write(IN, &[0xff; 16]).unwrap();
    let hash = hca.command(&command("MGID_HASH")).unwrap();
    assert_eq!(hash, u64::from(crate::mlx4::commands::mcg::hash(&[0xff; 16], 9)));
    assert!(hash < 1 << 9);
}

/// What a driver does when it is unloaded (mlx4/main.c, `mlx4_close_hca` and `mlx4_close_fw`).
#[test]
fn mapped_memory_is_returned() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    assert_eq!(hca.command(&command("UNMAP_ICM_AUX")), Err(Status::BadSysState), "in use");
    assert_eq!(hca.command(&command("UNMAP_FA")), Err(Status::BadSysState), "in use");
    hca.command(&command("CLOSE_HCA")).unwrap();
    // mlx4/icm.c, `mlx4_UNMAP_ICM`: where in the immediate argument, how many pages in the modifier.
    let place = 0x80_0000;
    assert!(hca.card.icm.dma(place).is_some());
    hca.command(&Command { in_param: place, modifier: 2, ..command("UNMAP_ICM") }).unwrap();
    let mapped = [0, 0x1000, 0x2000].map(|page| hca.card.icm.dma(place + page).is_some());
    assert_eq!(mapped, [false, false, true]);
    assert_eq!(
        hca.command(&Command { in_param: 8, modifier: 1, ..command("UNMAP_ICM") }),
        Err(Status::BadParam)
    );
    hca.command(&command("UNMAP_ICM_AUX")).unwrap();
    assert_eq!(hca.map("MAP_ICM", place, 16 << 20, 0), Err(Status::IcmError), "no scratch memory");
    hca.command(&command("UNMAP_FA")).unwrap();
    assert_eq!(hca.ask("QUERY_DEV_CAP", 0, &[]), Err(Status::BadSysState));
    assert_eq!(hca.command(&command("RUN_FW")), Err(Status::BadSysState), "no memory");
}

#[test]
fn unmapped_tables_are_violations() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    hca.reports("MAP_ICM: an ICM address inside a page", |hca| {
        assert_eq!(hca.map("MAP_ICM", 0x8000_0800, 0, 0), Err(Status::BadParam));
    });
    hca.reports("MAP_ICM: 0x1000 is mapped already", |hca| {
        hca.map("MAP_ICM", 0x1000, (16 << 20) + 0x1000, 0).unwrap();
    });
    hca.command(&Command { in_param: 0x40_0000, modifier: 1, ..command("UNMAP_ICM") }).unwrap();
    hca.reports("MPT 0x20: its memory cannot be reached", |hca| {
        assert_eq!(hca.ask("SW2HW_MPT", 0x20, &mpt(0x20)), Err(Status::IcmError));
    });
    hca.map("MAP_ICM", 0x40_0000, (16 << 20) + 0x40_0000, 0).unwrap();
    hca.command(&command("CLOSE_HCA")).unwrap();
    let mut older = init_hca(true);
    older[0] = 1;
    hca.reports("INIT_HCA: a layout of another version", |hca| {
        assert_eq!(hca.ask("INIT_HCA", 0, &older), Err(Status::BadParam));
    });
    hca.command(&Command { in_param: 0x60_1000, modifier: 1, ..command("UNMAP_ICM") }).unwrap();
    hca.reports("INIT_HCA: the MC table's entry 0x4 is not mapped", |hca| {
        assert_eq!(hca.ask("INIT_HCA", 0, &init_hca(true)), Err(Status::IcmError));
    });
}
