use super::*;
use crate::discover::testing::Folder;

fn rxe0(folder: &Folder) -> &Folder {
    folder
        .file("class/infiniband/rxe0/node_guid", "5054:00ff:fe12:3456\n")
        .file("class/infiniband/rxe0/sys_image_guid", "5054:00ff:fe12:3456\n")
        .file("class/infiniband/rxe0/node_type", "1: CA\n")
        .file("class/infiniband/rxe0/parent", "eth0\n")
        .file("class/infiniband/rxe0/ports/1/state", "4: ACTIVE\n")
        .file("class/infiniband_verbs/uverbs0/ibdev", "rxe0\n")
        .file("class/infiniband_verbs/uverbs0/dev", "231:192\n")
        .file("class/infiniband_verbs/uverbs0/abi_version", "2\n")
        .file("class/infiniband_verbs/abi_version", "6\n")
}

fn all(folder: &Folder) -> Vec<DeviceInfo> {
    list(folder.path(), |_| true).unwrap().unwrap()
}

#[test]
fn a_device_is_read_whole() {
    let folder = Folder::new("sysfs-whole");
    rxe0(&folder);
    let devices = all(&folder);
    let [device] = devices.as_slice() else { panic!("{devices:?}") };
    assert_eq!(device.name, "rxe0");
    assert_eq!(format!("{:x}", device.node_guid), "505400fffe123456");
    assert_eq!(device.sys_image_guid, Some(device.node_guid));
    assert_eq!(device.node_type, NodeType::CA);
    assert_eq!(device.port_count, 1);
    assert_eq!(device.driver, DriverId::RXE);
    let uverbs = device.uverbs.as_ref().unwrap();
    assert_eq!((uverbs.name.as_str(), uverbs.abi), ("uverbs0", 2));
    assert_eq!(uverbs.number, DeviceNumber { major: 231, minor: 192 });
    assert_eq!(uverbs.path(), Path::new("/dev/infiniband/uverbs0"));
    assert_eq!(uverbs_of(folder.path(), "rxe0").as_ref(), Some(uverbs));
    assert_eq!(uverbs_of(folder.path(), "rxe1"), None);
}

#[test]
fn no_folder_and_an_empty_folder_are_not_the_same() {
    let folder = Folder::new("sysfs-none");
    assert_eq!(list(folder.path(), |_| true).unwrap(), None);
    std::fs::create_dir_all(folder.path().join("class/infiniband")).unwrap();
    assert_eq!(list(folder.path(), |_| true).unwrap(), Some(Vec::new()));
}

#[test]
fn a_device_without_uverbs_is_listed_after_those_with() {
    let folder = Folder::new("sysfs-without");
    rxe0(&folder)
        .file("class/infiniband/mlx5_1/node_type", "1: CA\n")
        .file("class/infiniband/abc/node_type", "4: RNIC\n");
    let devices = all(&folder);
    let names: Vec<_> = devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["rxe0", "abc", "mlx5_1"]);
    assert_eq!(devices[1].uverbs, None);
    assert_eq!(devices[1].node_type, NodeType::RNIC);
    assert_eq!(devices[1].node_guid, Guid::default());
}

#[test]
fn only_wanted_devices_are_read() {
    let folder = Folder::new("sysfs-wanted");
    rxe0(&folder).file("class/infiniband/abc/node_type", "4: RNIC\n");
    let found = list(folder.path(), |name| name == "abc").unwrap().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, "abc");
}

#[test]
fn the_driver_is_told_from_what_is_there() {
    let folder = Folder::new("sysfs-driver");
    let device = |name: &str, driver: &str| {
        let path = folder.path().join("class/infiniband").join(name).join("device");
        std::fs::create_dir_all(&path).unwrap();
        std::os::unix::fs::symlink(format!("../../bus/pci/drivers/{driver}"), path.join("driver")).unwrap();
    };
    device("mlx4_0", "mlx4_core");
    device("ibp1s0", "mlx5_core");
    device("soft", "mlx5_core");
    device("siw7", "mlx5_core");
    device("new", "never_seen");
    folder.file("class/infiniband/soft/parent", "ens1\n");
    let told = ["mlx4_0", "ibp1s0", "soft", "siw7", "new", "absent", "../escape"]
        .map(|name| driver(folder.path(), name));
    assert_eq!(
        told,
        [
            DriverId::MLX4,
            DriverId::MLX5,
            DriverId::RXE,
            DriverId::SIW,
            DriverId::UNKNOWN,
            DriverId::UNKNOWN,
            DriverId::UNKNOWN
        ]
    );
}

#[test]
fn nonsense_in_files_leaves_the_device_out_or_the_value() {
    let folder = Folder::new("sysfs-nonsense");
    rxe0(&folder)
        .file("class/infiniband_verbs/uverbs1/ibdev", "")
        .file("class/infiniband_verbs/uverbs1/dev", "231")
        .file("class/infiniband_verbs/uverbs2/ibdev", b"\xff\xfe")
        .file("class/infiniband_verbs/uverbs2/dev", "99999999999:0\n")
        .file("class/infiniband/rxe0/node_guid", "5054:00ff:fe12\n")
        .file("class/infiniband/rxe0/node_type", "CA")
        .file("class/infiniband/rxe0/ports/x/state", "")
        .file("class/infiniband/rxe0/ports/99999999999/state", "");
    let devices = all(&folder);
    assert_eq!(devices.len(), 1);
    assert_eq!(devices[0].node_guid, Guid::default());
    assert_eq!(devices[0].node_type, NodeType(0));
    assert_eq!(devices[0].port_count, 1);
}

#[test]
fn guids_are_read_strictly() {
    assert_eq!(parse_guid("0200:c0ff:fe00:0102").unwrap().to_string(), "0200:c0ff:fe00:0102");
    for text in ["", "0:0:0:0", "0200:c0ff:fe00", "0200:c0ff:fe00:0102:0000", "+200:c0ff:fe00:0102"] {
        assert_eq!(parse_guid(text), None, "{text:?}");
    }
}

#[test]
fn gids_of_infiniband_are_not_roce() {
    let folder = Folder::new("sysfs-gids");
    let port = "class/infiniband/mlx4_0/ports/1";
    folder
        .file(&format!("{port}/gids/0"), "fe80:0000:0000:0000:10d2:c910:0000:6bd1\n")
        .file(&format!("{port}/gids/1"), "0000:0000:0000:0000:0000:ffff:0a00:0001\n")
        .file(&format!("{port}/gids/2"), "0000:0000:0000:0000:0000:ffff:0a00:0001\n")
        .file(&format!("{port}/gids/3"), "0000:0000:0000:0000:0000:0000:0000:0000\n")
        .file(&format!("{port}/gid_attrs/types/0"), "IB/RoCE v1\n")
        .file(&format!("{port}/gid_attrs/types/1"), "IB/RoCE v1\n")
        .file(&format!("{port}/gid_attrs/types/2"), "RoCE v2\n")
        // A folder stands for a file that does not read.
        .file(&format!("{port}/gid_attrs/ndevs/0/unread"), "")
        .file(&format!("{port}/gid_attrs/ndevs/1"), "eth0\n")
        .file(&format!("{port}/gid_attrs/ndevs/2"), "eth0\n");
    let found = gids(folder.path(), "mlx4_0", PortNum::ONE, 0..4);
    let types: Vec<_> = found.iter().map(|entry| (entry.index, entry.gid_type)).collect();
    let all = [(0, GidType::IB), (1, GidType::ROCE_V1), (2, GidType::ROCE_V2)];
    assert_eq!(types, all);
    // However long the table is said to be.
    let found = gids(folder.path(), "mlx4_0", PortNum::ONE, 0..u32::MAX);
    assert_eq!(found.iter().map(|entry| (entry.index, entry.gid_type)).collect::<Vec<_>>(), all);
    let count = |indices| gids(folder.path(), "mlx4_0", PortNum::ONE, indices).len();
    assert_eq!([count(1..2), count(1..3), count(3..9), count(0..0)], [1, 2, 0, 0]);
}

#[test]
fn no_device_has_four_thousand_million_ports() {
    let folder = Folder::new("sysfs-ports");
    rxe0(&folder).file("class/infiniband/rxe0/ports/4294967295/state", "");
    assert_eq!(all(&folder)[0].port_count, MAX_PORTS);
}
