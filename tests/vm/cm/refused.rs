//! What a peer or the kernel refuses: connections, private data, addresses.

use std::net::SocketAddr;

use bareverbs::ErrorKind;

use super::*;

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn requests_that_are_rejected() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let ask = || {
        let client = Side::new(resolved(address));
        client.id.connect(&client.qp, &ConnParam::new()).unwrap();
        client
    };
    let client = ask();
    request(&listener).reject(b"not today").unwrap();
    let told = event(&client.id.channel(), CmEventType::REJECTED);
    assert!(told.private_data().starts_with(b"not today\0"));
    assert_eq!(told.status, 28);
    let meaning = client.id.failure(&told).unwrap();
    assert!(meaning.kind() == ErrorKind::ConnectionRefused);
    assert_eq!(
        meaning.to_string(),
        format!("connect on {address}: the peer's program rejected it (reason 28)")
    );
    drop(client);

    // A request that nobody wants to have.
    let client = ask();
    drop(request(&listener));
    let error = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap_err();
    assert!(error.to_string().contains("rejected"), "{error}");
    drop(client);

    // A listener that goes before it has looked.
    let client = ask();
    drop(listener);
    let error = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap_err();
    assert!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
    drop(client);

    // None at all.
    let client = ask();
    let error = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&address.to_string()) && said.contains("nobody listens there"), "{said}");
    drop(client);
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn datagrams_that_are_rejected() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let ask = || {
        let client = ud_id();
        resolve(&client, address);
        let qp = ud(&client);
        client.connect(&qp, &ConnParam::new()).unwrap();
        (client, qp)
    };
    let meaning = |client: &CmId, told: &CmEvent| {
        let error = client.failure(told).unwrap();
        assert!(error.kind() == ErrorKind::ConnectionRefused, "{error}");
        error.to_string()
    };
    let listener = ud_listener(address);
    let (client, qp) = ask();
    request(&listener).reject(b"not today").unwrap();
    let told = event(&client.channel(), CmEventType::UNREACHABLE);
    assert!(told.private_data().starts_with(b"not today\0"));
    assert_eq!(told.status, 2);
    let said = meaning(&client, &told);
    assert_eq!(said, format!("connect on {address}: the peer's program rejected it (status 2)"));
    drop((client, qp));

    // What is too long is not sent; the request that goes with it is rejected.
    for (len, limit) in [(137, 136), (256, 255)] {
        let (client, qp) = ask();
        let said = request(&listener).reject(&[b'x'; 256][..len]).unwrap_err().to_string();
        assert!(said.contains(&format!("{len} bytes of private data")), "{said}");
        assert!(said.contains(&limit.to_string()), "{said}");
        let told = event(&client.channel(), CmEventType::UNREACHABLE);
        assert!(meaning(&client, &told).contains("rejected it"), "{told:?}");
        drop((client, qp));
    }
    drop(listener);

    let (client, qp) = ask();
    let error = client.wait_for(CmEventType::ESTABLISHED, Duration::MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "connect on {address}: nobody listens there (status 1); is the server running, on that address and port?"
        )
    );
    drop((client, qp));
    before.are_back();
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn private_data_that_are_too_long() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let listener = listener(address);
    let bytes = [b'x'; 300];
    let refused = |done: bareverbs::Result<()>, len: usize, limit: usize| {
        let said = done.unwrap_err().to_string();
        assert!(said.contains(&format!("{len} bytes of private data")), "{said}");
        assert!(said.contains(&limit.to_string()), "{said}");
    };
    let client = Side::new(resolved(address));
    for len in [57, 255] {
        refused(client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes[..len])), len, 56);
    }
    refused(client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes)), 300, 255);
    client.id.connect(&client.qp, &ConnParam::new().private_data(&bytes[..56])).unwrap();
    let mut server = Side::new(request(&listener));
    let answer = |len: usize| ConnParam::new().private_data(bytes.get(..len).unwrap());
    refused(server.id.accept(&mut server.qp, &answer(197)), 197, 196);
    drop(server);
    drop(client);

    let client = Side::new(resolved(address));
    client.id.connect(&client.qp, &ConnParam::new()).unwrap();
    let mut server = Side::new(request(&listener));
    server.id.accept(&mut server.qp, &answer(196)).unwrap();
    let told = client.id.wait_for(CmEventType::CONNECT_RESPONSE, SOON).unwrap();
    assert_eq!(told.private_data(), &bytes[..196]);
    drop((client, server));

    for (len, limit) in [(149, 148), (256, 255)] {
        let client = Side::new(resolved(address));
        client.id.connect(&client.qp, &ConnParam::new()).unwrap();
        refused(skipping(&listener).reject(&bytes[..len]), len, limit);
    }
    drop(listener);
    before.are_back();
}

/// The id of the next request, whatever comes before it.
fn skipping(listener: &CmId) -> CmId {
    loop {
        let event = listener.channel().wait(Some(SOON)).unwrap().ready().unwrap();
        if let Some(id) = event.request {
            return id;
        }
    }
}

#[test]
#[ignore = "runs in the guest: cargo xtask test"]
fn addresses_that_cannot_be_had() {
    let before = Resources::now();
    let address = SocketAddr::new(ipv4(), fresh_port());
    let holder = listener(address);
    let refused = |done: bareverbs::Result<()>, errno: Errno, part: &str| {
        let error = done.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno as i32), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(id().bind(address), Errno::EADDRINUSE, "somebody else has that port");
    refused(
        id().bind("10.9.9.9:7174".parse().unwrap()),
        Errno::EADDRNOTAVAIL,
        "no RDMA device has that address",
    );
    let unbound = id();
    unbound.listen(1).unwrap();
    assert_ne!(unbound.local_addr().unwrap().port(), 0);
    drop(unbound);
    drop(holder);

    // Two may have one address if both say so, but a listener must have it alone.
    let [one, other] = [id(), id()];
    for id in [&one, &other] {
        id.set_reuseaddr(true).unwrap();
        id.bind(address).unwrap();
    }
    refused(one.listen(1), Errno::EADDRINUSE, "choose another");
    drop(other);
    one.listen(1).unwrap();
    let all = SocketAddr::new("0.0.0.0".parse().unwrap(), address.port());
    refused(id().bind(all), Errno::EADDRNOTAVAIL, "somebody else has that port");
    drop(one);
    let everywhere = listener(all);
    refused(id().bind(address), Errno::EADDRNOTAVAIL, "somebody else has that port");
    drop(everywhere);

    let port = fresh_port();
    let (six, four) = (id(), id());
    six.set_afonly(true).unwrap();
    six.bind(SocketAddr::new("::".parse().unwrap(), port)).unwrap();
    six.listen(1).unwrap();
    four.bind(SocketAddr::new("0.0.0.0".parse().unwrap(), port)).unwrap();
    four.listen(1).unwrap();
    drop((six, four));

    let far = "192.0.2.1:7174".parse().unwrap();
    refused(id().resolve_addr(None, far, SOON), Errno::ENETUNREACH, "192.0.2.1:7174");
    let source = "10.9.9.9:0".parse().unwrap();
    let done = id().resolve_addr(Some(source), address, SOON);
    assert!(done.unwrap_err().to_string().contains("does an RDMA device have the address 10.9.9.9?"));
    let done = id().resolve_addr(Some("[::1]:0".parse().unwrap()), address, SOON);
    assert!(done.is_err());
    // Steps that are not due.
    refused(id().resolve_route(SOON), Errno::EINVAL, "resolve_route");
    let error = id().context().unwrap_err();
    assert!(error.to_string().contains("not bound to a device"), "{error}");
    before.are_back();
}
