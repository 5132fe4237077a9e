//! rxe's address handle: a number by which requests name it.

use super::wqe;
use crate::error::{Error, Result};
use crate::types::DeviceAh;
use crate::uapi::rxe::CreateAhResp;
use crate::uapi::verbs::AhAttr;
use crate::uverbs::{Udata, Uverbs};

/// Makes an address handle; gives the kernel's handle on it, and what requests name it by.
pub(crate) fn create(uverbs: &Uverbs, pd_handle: u32, attr: AhAttr) -> Result<(u32, DeviceAh)> {
    let mut answer = CreateAhResp::default();
    let handle = uverbs.create_ah(pd_handle, attr, Udata::answer(&mut answer))?;
    if answer.ah_num == 0 {
        // Nothing to add to the error.
        let _ = uverbs.destroy_ah(handle);
        let why = "the driver numbers no address handles; that of Linux 5.17 and later does";
        return Err(Error::bad_answer("create_ah", uverbs.device(), why));
    }
    Ok((handle, wqe::device_ah(answer.ah_num)))
}
