//! The kernel's structures and numbers, one file per kernel header.
//!
//! Names are the kernel's own (in Rust's letter case for types). Fields are in the kernel's order and padding is explicit, so that
//! every structure converts to and from bytes. [`LAYOUTS`] and [`NUMBERS`] list everything
//! declared here; `cargo xtask abi` has a C compiler compare each entry with the kernel's headers.

#![allow(missing_docs)] // the kernel's headers document their fields
#![allow(dead_code)] // declared so that the check against the headers covers them
#![allow(unreachable_pub, unused_imports)] // xtask compiles this module too, for the tables alone

pub mod ioctl;
pub mod linux_netlink;
pub mod linux_rtnetlink;
pub mod mlx4;
pub mod netlink;
pub mod rxe;
pub mod siw;
pub mod ucm;
pub mod verbs;

/// Where a field lies in a structure.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The field's name in C (a path such as `mr.rkey` inside unions).
    pub name: &'static str,
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Bytes that the field takes.
    pub size: usize,
}

/// One structure, as the Rust compiler lays it out.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The type's name in C, `struct` included.
    pub c_name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Bytes.
    pub align: usize,
    /// Every field that the kernel's header has too.
    pub fields: &'static [Field],
}

/// One constant, as Rust has it.
#[derive(Debug, Clone, Copy)]
pub struct Number {
    /// Its name in C.
    pub c_name: &'static str,
    /// Its value.
    pub value: u64,
}

/// Every structure declared in this module, by header.
pub const LAYOUTS: &[(&str, &[Layout])] = &[
    ("rdma/ib_user_verbs.h", verbs::LAYOUTS),
    ("rdma/rdma_user_ioctl_cmds.h", ioctl::LAYOUTS),
    ("rdma/ib_user_ioctl_verbs.h", ioctl::verbs::LAYOUTS),
    ("rdma/rdma_user_rxe.h", rxe::LAYOUTS),
    ("rdma/siw-abi.h", siw::LAYOUTS),
    ("rdma/mlx4-abi.h", mlx4::LAYOUTS),
    ("rdma/rdma_netlink.h", netlink::LAYOUTS),
    ("rdma/rdma_user_cm.h", ucm::LAYOUTS),
    ("linux/netlink.h", linux_netlink::LAYOUTS),
    ("linux/rtnetlink.h", linux_rtnetlink::LAYOUTS),
];

/// Every constant declared in this module, by header.
pub const NUMBERS: &[(&str, &[Number])] = &[
    ("rdma/ib_user_verbs.h", verbs::NUMBERS),
    ("rdma/rdma_user_ioctl_cmds.h", ioctl::NUMBERS),
    ("rdma/ib_user_ioctl_cmds.h", ioctl::cmds::NUMBERS),
    ("rdma/ib_user_ioctl_verbs.h", ioctl::verbs::NUMBERS),
    ("rdma/siw-abi.h", siw::NUMBERS),
    ("rdma/mlx4-abi.h", mlx4::NUMBERS),
    ("rdma/rdma_netlink.h", netlink::NUMBERS),
    ("rdma/rdma_user_cm.h", ucm::NUMBERS),
    ("linux/netlink.h", linux_netlink::NUMBERS),
    ("linux/rtnetlink.h", linux_rtnetlink::NUMBERS),
];

/// Declares structures of the kernel's ABI and the table of their layouts.
///
/// A field's C path follows its type after `=` where it differs from the Rust name; `= _` marks a field that
/// has no C counterpart of its own (explicit padding).
macro_rules! uapi_structs {
    ($(
        $(#[$meta:meta])*
        struct $name:ident = $c_name:literal {
            $( $(#[$fmeta:meta])* $field:ident : $ty:ty $(= $c_path:tt)? ),* $(,)?
        }
    )*) => {
        $(
            $(#[$meta])*
            #[derive(
                Debug, Clone, Copy, PartialEq, Eq,
                zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
            )]
            #[repr(C)]
            pub struct $name {
                $( $(#[$fmeta])* pub $field: $ty, )*
            }

            impl Default for $name {
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }
        )*

        /// The structures of this file, as laid out by the compiler.
        pub const LAYOUTS: &[$crate::uapi::Layout] = &[
            $( $crate::uapi::Layout {
                c_name: $c_name,
                size: size_of::<$name>(),
                align: align_of::<$name>(),
                fields: &[
                    $( $crate::uapi::Field {
                        name: $crate::uapi::c_path!($field $($c_path)?),
                        offset: std::mem::offset_of!($name, $field),
                        size: $crate::uapi::field_size(|s: &$name| &raw const s.$field),
                    }, )*
                ],
            }, )*
        ];
    };
}

/// Declares constants of the kernel's ABI under their own names, and the table of them.
macro_rules! uapi_numbers {
    ($( $ty:ty { $( $name:ident = $value:expr ),* $(,)? } )*) => {
        $( $( pub const $name: $ty = $value; )* )*

        /// The constants of this file.
        pub const NUMBERS: &[$crate::uapi::Number] = &[
            $( $( $crate::uapi::Number { c_name: stringify!($name), value: $name as u64 }, )* )*
        ];
    };
}

/// The C path of a field: its own name, the given one, or nothing for `_`.
macro_rules! c_path {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident _) => {
        ""
    };
    ($field:ident $path:literal) => {
        $path
    };
}

pub(crate) use {c_path, uapi_numbers, uapi_structs};

/// The size of the field that `_at` points to, from its type alone.
const fn field_size<S, F>(_at: fn(&S) -> *const F) -> usize {
    size_of::<F>()
}
