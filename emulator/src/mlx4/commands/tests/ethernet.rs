//! The port on Ethernet: tables, filters, counters.

use super::*;
use crate::fabric::{
    ethernet::port::{EthernetPort, Steering},
    port::LinkLayer,
};

fn ethernet() -> Hca {
    let file = crate::bus::memory::tests::file(MEMORY);
    let identity = Identity { link_layer: LinkLayer::Ethernet, ..Identity::new(Model::ConnectX3, GUID) };
    let mut hca = Hca::new("test", identity, 1, 1, Trace::default());
    hca.card.memory.map(0, MEMORY, file, 0).unwrap();
    hca.start();
    hca
}

impl Hca {
    /// The second byte of the modifier tells what is set for port 1 (`MLX4_SET_PORT_*`).
    fn set_port(&mut self, what: u32, input: &[u8]) -> Result<u64, Status> {
        self.card.memory.write(IN, &[0; 4096]).unwrap();
        self.card.memory.write(IN, input).unwrap();
        self.command(&Command { op_modifier: 1, modifier: what << 8 | 1, ..command("SET_PORT") })
    }

    fn ethernet(&mut self) -> &mut EthernetPort {
        self.card.port.ethernet.as_deref_mut().unwrap()
    }
}

#[test]
fn set_port_sets_the_address_tables() {
    let mut hca = ethernet();
    // mlx4.h, `struct mlx4_set_port_general_context`: v_mtu, and the MTU (port.c, `mlx4_SET_PORT_general`).
    let mut general = [0; 64];
    general[3] = 1;
    put16(&mut general, 6, 1522);
    hca.set_port(0, &general).unwrap();
    assert_eq!(hca.ethernet().max_frame, 1522);
    // port.c, `mlx4_set_port_mac_table`: the top bit says that an entry is valid (`MLX4_MAC_VALID`).
    let mut macs = [0; 1024];
    put64(&mut macs, 0, 1 << 63 | 0x0002_c900_0001);
    put64(&mut macs, 8, 0x0002_c900_0002);
    put64(&mut macs, 127 * 8, 1 << 63 | 0x0002_c900_0003);
    hca.set_port(2, &macs).unwrap();
    let mut found = [0_u8, 2, 0xc9, 0, 0, 0];
    for (last, taken) in [(1, true), (2, false), (3, true)] {
        found[5] = last;
        assert_eq!(hca.ethernet().has_mac(found), taken, "{last}");
    }
    // port.c, `mlx4_set_port_vlan_table`: `MLX4_VLAN_VALID`.
    let mut vlans = [0; 512];
    put32(&mut vlans, 4, 1 << 31 | 0x123);
    put32(&mut vlans, 8, 0x124);
    hca.set_port(3, &vlans).unwrap();
    let vlans = hca.ethernet().vlans;
    assert_eq!((vlans[0], vlans[1], vlans[2]), (None, Some(0x123), None));
    // infiniband/hw/mlx4/main.c, `mlx4_ib_update_gids_v1`: 128 of 16 bytes.
    let mut gids = [0; 2048];
    gids[16..32].fill(0xfe);
    gids[127 * 16..].fill(0xfd);
    hca.set_port(5, &gids).unwrap();
    let gids = hca.ethernet().gids;
    assert_eq!((gids[0], gids[1], gids[127]), ([0; 16], [0xfe; 16], [0xfd; 16]));
    // The card has no priorities.
    assert_eq!(hca.set_port(8, &[]), Err(Status::BadOp));
    assert_eq!(hca.card.violations.count(), 0);
    // The card has no RoCE version 2.
    general[2] = 1 << 4;
    assert_eq!(hca.set_port(0, &general), Err(Status::BadParam));
}

#[test]
fn vlan_and_multicast_filters() {
    let mut hca = ethernet();
    // en_port.c, `mlx4_SET_VLAN_FLTR`: the last word has the first VLANs.
    let mut filter = [0; 512];
    put32(&mut filter, 508, 1 << 5);
    put32(&mut filter, 0, 1 << 31);
    hca.ask("SET_VLAN_FLTR", 1, &filter).unwrap();
    let taken = |hca: &mut Hca, vlan| hca.ethernet().takes_vlan(vlan);
    assert!(taken(&mut hca, 5) && taken(&mut hca, 4095) && !taken(&mut hca, 4) && !taken(&mut hca, 4064));
    // port.c, `mlx4_SET_MCAST_FLTR`: an address, bit 63 empties the filter before, the variants turn it off and on.
    let filter = |hca: &mut Hca, op_modifier, in_param| {
        hca.command(&Command { op_modifier, modifier: 1, in_param, ..command("SET_MCAST_FLTR") })
    };
    let [one, two, three] = [1, 2, 3].map(|last| [1, 0, 0x5e, 0, 0, last]);
    filter(&mut hca, 2, 0).unwrap();
    filter(&mut hca, 0, 0x0100_5e00_0001).unwrap();
    filter(&mut hca, 0, 0x0100_5e00_0002).unwrap();
    assert!(hca.ethernet().takes_group(one) && hca.ethernet().takes_group(two));
    assert!(!hca.ethernet().takes_group(three));
    filter(&mut hca, 0, 1 << 63 | 0x0100_5e00_0003).unwrap();
    assert!(!hca.ethernet().takes_group(one) && hca.ethernet().takes_group(three));
    filter(&mut hca, 1, 0).unwrap();
    assert!(hca.ethernet().takes_group(one));
    assert_eq!(filter(&mut hca, 3, 0), Err(Status::BadOp));
    assert_eq!(hca.card.violations.count(), 0);
}

#[test]
fn frames_without_an_entry_go_to_promiscuous_queue_pairs() {
    // mcg.c, `mlx4_WRITE_PROMISC`: port and kind of steering in the modifier, `struct mlx4_mgm` in the mailbox.
    let mut hca = ethernet();
    let mut entry = [0; 1024];
    put32(&mut entry, 4, 1 << 30 | 2);
    put32(&mut entry, 32, 0x48);
    put32(&mut entry, 36, 0x49);
    put32(&mut entry, 40, 0x4a);
    hca.card.memory.write(IN, &entry).unwrap();
    let write =
        |hca: &mut Hca, modifier| hca.command(&Command { op_modifier: 1, modifier, ..command("WRITE_MCG") });
    write(&mut hca, 1 << 16 | 1 << 1).unwrap();
    assert_eq!(hca.ethernet().promiscuous[Steering::Unicast as usize], [0x48, 0x49]);
    assert!(hca.ethernet().promiscuous[Steering::Multicast as usize].is_empty());
    assert_eq!(write(&mut hca, 2 << 16), Err(Status::BadIndex));
}

#[test]
fn statistics_have_the_network_drivers_layout() {
    // en_port.h, `struct mlx4_en_stat_out_mbox`.
    let mut hca = ethernet();
    hca.card.port.counters.received_packets = 3;
    hca.card.port.counters.received_bytes = 300;
    hca.card.port.counters.sent_packets = 4;
    hca.card.port.counters.sent_bytes = 400;
    hca.ethernet().counters.received_broadcast = 5;
    hca.ethernet().counters.dropped = 6;
    let out = hca.ask("DUMP_ETH_STATS", 1, &[]).unwrap();
    let [bytes_in, packets_in, bytes_out, packets_out] =
        [0x478, 0x540, 0xa78, 0xb58].map(|at| get64(&out, at));
    assert_eq!((bytes_in, packets_in, bytes_out, packets_out), (300, 3, 400, 4));
    assert_eq!((get64(&out, 0x310), get32(&out, 0xb98)), (5, 6), "RBCAST_novlan, RDROP");
    // The third byte of the modifier resets them.
    hca.ask("DUMP_ETH_STATS", 1 << 8 | 1, &[]).unwrap();
    let out = hca.ask("DUMP_ETH_STATS", 1, &[]).unwrap();
    assert!(out[..0xbb0].iter().all(|byte| *byte == 0));
}

/// Commands of Ethernet ports are refused on InfiniBand.
#[test]
fn infiniband_ports_refuse_ethernet_commands() {
    let mut hca = card(Model::ConnectX3);
    hca.start();
    assert_eq!(hca.set_port(2, &[0; 1024]), Err(Status::BadOp));
    assert_eq!(hca.ask("SET_VLAN_FLTR", 1, &[0; 512]), Err(Status::BadOp));
    assert_eq!(hca.ask("DUMP_ETH_STATS", 1, &[]), Err(Status::BadOp));
}
