#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Copyright (c) The Svsm.Sdk contributors
#
# Computes NewerCommands.json: exact commands and responses of the commands that swtpm (libtpms 0.9) does not have. It shares nothing with the
# TPM: its own arithmetic on P-256, hashlib for digests, bytes put together by hand. A response "" is not compared.
#
#     python3 NewerCommands.py > NewerCommands.json
#
# Sources: TCG TPM 2.0 Library 1.84, Part 3 (the commands), Part 1 ("ECC Encryption": C1 = [k]G, C2 = M xor KDF2(x || y), C3 = H(x || M || y)
# of the shared point; KDF2 counts from 1), Part 2 (TPMT_NV_PUBLIC_2, TPMS_ACT_DATA); FIPS 186-4, D.1.2.3 (the curve).

import hashlib
import json
import os
import struct

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
A = P - 3
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
     0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5)

OWNER, NULL, PASSWORD, PLATFORM, TIMER = 0x40000001, 0x40000007, 0x40000009, 0x4000000C, 0x40000110
OK = "80010000000a00000000"


def add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % P == 0:
        return None
    slope = ((3 * p[0] * p[0] + A) * pow(2 * p[1], -1, P) if p == q else (q[1] - p[1]) * pow(q[0] - p[0], -1, P)) % P
    x = (slope * slope - p[0] - q[0]) % P
    return x, (slope * (p[0] - x) - p[1]) % P


def multiply(k, p):
    result = None
    for bit in bin(k)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, p)
    return result


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def sized(value):
    return u16(len(value)) + value


def number(value):
    return value.to_bytes(32, "big")


def digest(name, *parts):
    return hashlib.new(name, b"".join(parts)).digest()


def command(code, handles, parameters, authorizes=0):
    body = b"".join(u32(h) for h in handles)
    if authorizes:
        body += u32(9 * authorizes) + (u32(PASSWORD) + bytes([0, 0, 1, 0, 0])) * authorizes
    body += parameters
    return (u16(0x8002 if authorizes else 0x8001) + u32(10 + len(body)) + u32(code) + body).hex()


def response(parameters, authorizes=0, handle=None):
    body = b"" if handle is None else u32(handle)
    body += (u32(len(parameters)) if authorizes else b"") + parameters + bytes([0, 0, 1, 0, 0]) * authorizes
    return (u16(0x8002 if authorizes else 0x8001) + u32(10 + len(body)) + u32(0) + body).hex()


def policy(code, parameters, statement):
    """A trial session, the command, the digest that it makes."""
    session = 0x03000000
    return [
        [command(0x176, [NULL, NULL], sized(bytes(16)) + u16(0) + b"\x03" + u16(0x10) + u16(0x0B)), ""],
        [command(code, [session], parameters), OK],
        [command(0x189, [session], b""), response(sized(digest("sha256", bytes(32), u32(code), statement)))],
        [command(0x165, [], u32(session)), OK],
    ]


def policies():
    operand, offset, operation, capability, prop = b"\x00\x18", 6, 0, 6, 0x112
    arguments = digest("sha256", operand, u16(offset), u16(operation), u32(capability), u32(prop))
    hashed = digest("sha256", b"the parameters of a command")
    return (policy(0x19B, sized(operand) + u16(offset) + u16(operation) + u32(capability) + u32(prop), arguments)
            + policy(0x19C, sized(hashed), hashed))


def kdf2(name, seed, size):
    stream, counter = b"", 1
    while len(stream) < size:
        stream += digest(name, seed, u32(counter))
        counter += 1
    return stream[:size]


def encryption():
    exchanges = []
    private = 0x1F2E3D4C5B6A79880123456789ABCDEF00112233445566778899AABBCCDDEEFF
    public = multiply(private, G)
    area = (u16(0x23) + u16(0x0B) + u32(0x20040) + u16(0) + u16(0x10) + u16(0x10) + u16(3) + u16(0x10)
            + sized(number(public[0])) + sized(number(public[1])))
    sensitive = u16(0x23) + u16(0) + u16(0) + sized(number(private))
    name = u16(0x0B) + digest("sha256", area)
    exchanges.append([command(0x167, [], sized(sensitive) + sized(area) + u32(NULL)), response(sized(name), handle=0x80000000)])
    for algorithm, hash_name in ((0x0B, "sha256"), (0x0C, "sha384"), (0x04, "sha1")):
        for text in (b"", b"a", bytes(range(200))):
            ephemeral = int.from_bytes(digest("sha256", hash_name.encode(), text), "big") % N
            point = multiply(ephemeral, G)
            shared = multiply(ephemeral, public)
            x, y = number(shared[0]), number(shared[1])
            hidden = bytes(a ^ b for a, b in zip(text, kdf2(hash_name, x + y, len(text))))
            check = digest(hash_name, x, text, y)
            first = sized(sized(number(point[0])) + sized(number(point[1])))
            exchanges.append([
                command(0x19A, [0x80000000], first + sized(hidden) + sized(check) + u16(0x21) + u16(algorithm), 1),
                response(sized(text), 1)])
    exchanges.append([command(0x165, [], u32(0x80000000)), OK])
    return exchanges


def indices():
    exchanges = []
    for index, attributes, hash_id, hash_name, size in ((0x01500010, 0x00020002, 0x0B, "sha256", 17), (0x01500011, 0x00020012, 0x0D, "sha512", 8)):
        area = u32(index) + u16(hash_id) + u32(attributes) + u16(0) + u16(size)
        name = u16(hash_id) + digest(hash_name, area)
        exchanges += [
            [command(0x19D, [OWNER], u16(0) + sized(b"\x01" + area), 1), response(b"", 1)],
            [command(0x19E, [index], b""), response(sized(b"\x01" + area) + sized(name))],
            [command(0x169, [index], b""), response(sized(area) + sized(name))],
        ]
    return exchanges


def timer():
    data = u32(TIMER) + u32(90) + u32(0)
    return [
        [command(0x198, [TIMER], u32(90), 1), response(b"", 1)],
        [command(0x17A, [], u32(10) + u32(TIMER) + u32(1)), response(b"\x00" + u32(10) + u32(1) + data)],
    ]


if __name__ == "__main__":
    with open(os.path.abspath(__file__), "rb") as script:
        own = hashlib.sha256(script.read()).hexdigest()
    print(json.dumps({"script": own, "exchanges": policies() + encryption() + indices() + timer()}, indent=1))
