//! An id and a queue pair: connected, accepted, disconnected.

use nix::errno::Errno;

use super::event::LISTEN;
use super::{CmId, ConnParam};
use crate::discover::Transport;
use crate::error::{Error, Result};
use crate::types::{Psn, QpState, Qpn};
use crate::uapi::ucm::{self, Accept, Connect, Disconnect, Notify, RDMA_MAX_PRIVATE_DATA, Reject};
use crate::verbs::{AsyncEventType, Pd, Qp, QpAttr, QpInit};

/// Whether a queue pair is connected by the kernel, over TCP.
fn is_iwarp(qp: &Qp) -> bool {
    qp.context().info().transport() == Transport::IWARP
}

/// Bytes of private data that messages carry, over InfiniBand and RoCE.
struct Limits {
    request: usize,
    accept: usize,
    reject: usize,
}

impl CmId {
    /// Makes a queue pair and brings it to where receives can be posted ([`CmId::init_qp`]). See `rdma_create_qp(3)`.
    ///
    /// # Errors
    /// As [`Pd::create_qp`] and [`CmId::init_qp`].
    pub fn create_qp(&self, pd: &Pd, init: QpInit<'_>) -> Result<Qp> {
        let mut qp = pd.create_qp(init)?;
        self.init_qp(&mut qp)?;
        Ok(qp)
    }

    /// Brings a new queue pair to INIT, for datagrams to RTS.
    ///
    /// # Errors
    /// The queue pair is of another device, or the id is bound to none.
    pub fn init_qp(&self, qp: &mut Qp) -> Result<()> {
        let (ours, its) = (self.context()?, qp.context());
        if (ours.info().node_guid, ours.info().index) != (its.info().node_guid, its.info().index) {
            let why =
                format!("the queue pair is of {}, the address of {}", its.info().name, ours.info().name);
            return Err(Error::invalid("init_qp", self.object(), why));
        }
        self.bring(qp, QpState::INIT, |attr| attr)?;
        if self.datagram {
            // Nothing is agreed on with a peer.
            qp.modify(&QpAttr::to(QpState::RTR))?;
            qp.modify(&QpAttr { sq_psn: Some(Psn::default()), ..QpAttr::to(QpState::RTS) })?;
        }
        Ok(())
    }

    /// What a queue pair of this id is to be given to go to `state`. See `rdma_init_qp_attr(3)`.
    ///
    /// # Errors
    /// The id is not bound to a device, or the connection is not that far.
    pub fn init_qp_attr(&self, state: QpState) -> Result<QpAttr> {
        let raw = self.channel.ucma.init_qp_attr(self.handle, u8::from(state).into());
        raw.map(|raw| QpAttr::from_cm(&raw)).map_err(|errno| self.error("init_qp_attr", errno))
    }

    /// Asks the peer for a connection to `qp`, or to be told where its queue pair for datagrams is.
    ///
    /// Events `CONNECT_RESPONSE` ([`CmId::establish`] is due) or, for datagrams, `ESTABLISHED`; else `REJECTED`, `UNREACHABLE`
    /// or `CONNECT_ERROR`. See `rdma_connect(3)`.
    ///
    /// # Errors
    /// The route is not resolved, or the private data are too long.
    pub fn connect(&self, qp: &Qp, param: &ConnParam<'_>) -> Result<()> {
        let conn_param = self.param("connect", param, qp.qp_num())?;
        let command = Connect { conn_param, id: self.handle, reserved: 0, ece: ucm::Ece::default() };
        let sent = self.channel.ucma.tell(&command);
        sent.map_err(|errno| self.explain("connect", errno, param.private_data_len(), self.limits().request))
    }

    /// After `CONNECT_RESPONSE`: brings the queue pair to where it can send, and confirms to the peer. See `rdma_establish(3)`.
    ///
    /// Over iWARP the kernel has done both already.
    ///
    /// # Errors
    /// There was no `CONNECT_RESPONSE`, or the connection has ended since.
    pub fn establish(&self, qp: &mut Qp) -> Result<()> {
        if is_iwarp(qp) {
            return Ok(());
        }
        let done = self.run(qp, |attr| attr).and_then(|()| self.confirm());
        if done.is_err() {
            let _ = qp.modify(&QpAttr::to(QpState::ERR));
        }
        done
    }

    /// The confirmation alone, for a program that has brought its queue pair to RTS itself ([`CmId::init_qp_attr`]).
    ///
    /// # Errors
    /// As [`CmId::establish`].
    pub fn confirm(&self) -> Result<()> {
        if self.context()?.info().transport() == Transport::IWARP {
            return Ok(());
        }
        let command = Accept { id: self.handle, ..Accept::default() };
        self.channel.ucma.tell(&command).map_err(|errno| self.error("establish", errno))
    }

    /// Takes a client's request: brings the queue pair to where it can send, and answers. Event `ESTABLISHED`; none for
    /// datagrams.
    ///
    /// Reads and atomics are held to what the client asked for. See `rdma_accept(3)`.
    ///
    /// # Errors
    /// The client has given up, or the private data are too long.
    pub fn accept(&self, qp: &mut Qp, param: &ConnParam<'_>) -> Result<()> {
        let param = match self.asked {
            Some((responder_resources, initiator_depth)) if !self.datagram => {
                param.at_most(responder_resources, initiator_depth)
            }
            _ => *param,
        };
        let (responder_resources, initiator_depth) = param.depths();
        if !self.datagram {
            self.run(qp, |attr| QpAttr {
                max_dest_rd_atomic: attr.max_dest_rd_atomic.map(|_| responder_resources),
                max_rd_atomic: attr.max_rd_atomic.map(|_| initiator_depth),
                ..attr
            })?;
        }
        let done = self.answer(qp.qp_num(), &param);
        if done.is_err() && !self.datagram {
            let _ = qp.modify(&QpAttr::to(QpState::ERR));
        }
        done
    }

    /// The answer alone, for a program that has brought its queue pair to RTS itself ([`CmId::init_qp_attr`]).
    ///
    /// # Errors
    /// As [`CmId::accept`].
    pub fn answer(&self, qp_num: Qpn, param: &ConnParam<'_>) -> Result<()> {
        let conn_param = self.param("accept", param, qp_num)?;
        let command = Accept {
            // From now on the kernel tells of this id's events.
            uid: self.user_handle,
            conn_param,
            id: self.handle,
            ..Accept::default()
        };
        let sent = self.channel.ucma.tell(&command);
        sent.map_err(|errno| self.explain("accept", errno, param.private_data_len(), self.limits().accept))
    }

    /// Refuses a client's request. Dropping its id does so too, without data. See `rdma_reject(3)`.
    ///
    /// # Errors
    /// The client has given up, or the private data are too long.
    pub fn reject(self, private_data: &[u8]) -> Result<()> {
        let mut command = Reject { id: self.handle, ..Reject::default() };
        command.private_data_len =
            u8::try_from(private_data.len()).map_err(|_| self.too_long("reject", private_data.len()))?;
        command.private_data[..private_data.len()].copy_from_slice(private_data);
        let sent = self.channel.ucma.tell(&command);
        sent.map_err(|errno| self.explain("reject", errno, private_data.len(), self.limits().reject))
    }

    /// Ends the connection, or confirms that the peer has: what is outstanding on the queue pair is flushed.
    ///
    /// Event `DISCONNECTED` when the peer has confirmed. See `rdma_disconnect(3)`.
    ///
    /// # Errors
    /// There is no connection.
    pub fn disconnect(&self, qp: &mut Qp) -> Result<()> {
        // Over iWARP, ERR would reset the TCP connection and SQD closes it in order. That fails once the peer has closed it.
        match is_iwarp(qp) {
            true => drop(qp.modify(&QpAttr::to(QpState::SQD))),
            false => qp.modify(&QpAttr::to(QpState::ERR))?,
        }
        let sent = self.channel.ucma.tell(&Disconnect { id: self.handle });
        sent.map_err(|errno| self.error("disconnect", errno))
    }

    /// Tells the connection manager of an async event of the queue pair: after `CommEst` it takes the connection for
    /// established without waiting for the client's confirmation. See `rdma_notify(3)`.
    ///
    /// # Errors
    /// The connection is not in the middle of being made.
    pub fn notify(&self, event: AsyncEventType) -> Result<()> {
        let sent = self.channel.ucma.tell(&Notify { id: self.handle, event: event.into() });
        sent.map_err(|errno| self.error("notify", errno))
    }

    /// INIT anew, with the rights that were agreed on, then RTR and RTS.
    fn run(&self, qp: &mut Qp, change: impl Fn(QpAttr) -> QpAttr) -> Result<()> {
        for state in [QpState::INIT, QpState::RTR, QpState::RTS] {
            self.bring(qp, state, &change)?;
        }
        Ok(())
    }

    fn bring(&self, qp: &mut Qp, state: QpState, change: impl Fn(QpAttr) -> QpAttr) -> Result<()> {
        qp.modify(&change(self.init_qp_attr(state)?))
    }

    fn param(&self, operation: &'static str, param: &ConnParam<'_>, qp_num: Qpn) -> Result<ucm::ConnParam> {
        param.to_kernel(qp_num).ok_or_else(|| self.too_long(operation, param.private_data_len()))
    }

    fn too_long(&self, operation: &'static str, len: usize) -> Error {
        let why =
            format!("{len} bytes of private data; nothing carries more than {}", RDMA_MAX_PRIVATE_DATA - 1);
        Error::invalid(operation, self.object(), why)
    }

    fn limits(&self) -> Limits {
        match self.datagram {
            false => Limits { request: 56, accept: 196, reject: 148 },
            true => Limits { request: 180, accept: 136, reject: 136 },
        }
    }

    fn explain(&self, operation: &'static str, errno: Errno, len: usize, limit: usize) -> Error {
        let error = self.error(operation, errno);
        match errno {
            Errno::EINVAL if len > limit => {
                error.with_hint(format!("{len} bytes of private data; this message carries {limit}"))
            }
            // Over iWARP a driver may connect at once, and not report an event later.
            Errno::ECONNREFUSED => error.with_hint(LISTEN),
            Errno::EINVAL if self.asked.is_some() => error.with_hint("the client may have given up"),
            _ => error,
        }
    }
}
