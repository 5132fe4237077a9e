//! The kernel's handles of objects.

use crate::{Ah, Cq, CqHandle, Mr, Mw, OpaqueMr, Pd, Qp, Srq, SrqHandle, Xrcd};

/// An object of the library that the kernel knows by a handle.
pub trait KernelObject: sealed::Sealed {}

mod sealed {
    pub trait Sealed {
        fn handle(&self) -> u32;
    }
}

/// Returns the handle by which commands of the same context name the object.
///
/// It is valid as long as the object lives; then the kernel may give it to another one.
#[must_use]
pub fn handle(object: &impl KernelObject) -> u32 {
    object.handle()
}

/// Returns the handle of an address handle, if the kernel has one: mlx4's belong to the driver in user space alone.
#[must_use]
pub fn ah_handle(ah: &Ah) -> Option<u32> {
    ah.raw_handle()
}

macro_rules! kernel_objects {
    ($($object:ty),*) => { $(
        impl KernelObject for $object {}

        impl sealed::Sealed for $object {
            fn handle(&self) -> u32 {
                self.raw_handle()
            }
        }
    )* };
}

kernel_objects!(Cq, CqHandle, Mr, Mw, OpaqueMr, Pd, Qp, Srq, SrqHandle, Xrcd);
