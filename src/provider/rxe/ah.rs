//! rxe's address handle: a number by which requests name it.

use super::wqe;
use crate::error::{Error, Result};
use crate::provider::{Created, NewAh};
use crate::uapi::rxe::CreateAhResp;
use crate::uapi::verbs::AhAttr;
use crate::uverbs::{Udata, Uverbs};

/// Creates an address handle, to which the driver gives a number.
pub(super) fn create(uverbs: &Uverbs, pd_handle: u32, attr: AhAttr) -> Result<NewAh> {
    let mut answer = CreateAhResp::default();
    let handle = uverbs.create_ah(pd_handle, attr, Udata::answer(&mut answer))?;
    let created = Created::new(uverbs, handle, Uverbs::destroy_ah);
    if answer.ah_num == 0 {
        let why = "the driver numbers no address handles; that of Linux 5.17 and later does";
        return Err(Error::bad_answer("create_ah", uverbs.device(), why));
    }
    created.keep();
    Ok(NewAh { handle: Some(handle), device: wqe::device_ah(answer.ah_num) })
}
