"""Published vectors of Merkle proofs: transparency-dev/merkle, `testdata/inclusion` and `testdata/consistency`.

Each hash has a letter; a proof is a word of them, `-` if it is empty.
"""

import base64
from hashlib import sha256

__all__ = ["CONSISTENCY", "INCLUSION", "LEAVES", "ROOTS"]

_HASHES = """
A bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=
B XcnaeacGWamtVZy3Ad7ZoqudgjqtL0lgz+Nw7/RgQyg=
C lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=
D Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=
E a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=
F hqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=
G Twg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=
H e0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=
I
J V3JvbmdSb290
K duZ9rbzfHhDht03cYIq9L5jfsW+851J3tSMqEn8gh+8=
L DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=
M yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=
N 037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=
O HrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=
P 2oVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=
Q w37kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=
R +sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU=
S Tju7H3tHjc/nH7YxYxUZo7yhLJrvyhYSv85ME6hiZNQ=
T vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=
U rBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=
V 3bib5AOAnjJXUNPSY814kpwpQreUKjS3fhIslZSnTIw=
W sIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8=
X oIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8=
Y 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
Z ZG9uJ3QgY2FyZSAy
a ZG9uJ3QgY2FyZSAx
b q6yroAAAAAAAAAAAAAAAAAAAAAAAAAAAAGAGHgASNFY=
c V3JvbmdMZWFm
d nqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=
e Vwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=
f Y0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=
g QnGia+DYqE8L1UyMMC58s6O10fpngKQLzOKHNHfatlg=
h tBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=
i woVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=
j 237kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=
k ApjRIpBtz8EIkstTpzmS/FufST6kybrbJ7eRtBJ6f+c=
l rra8/idLcKFPsGel5VeCZNsPqbUa9eC6FZFY8yngbnc=
m 8sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU=
n ZjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=
o DTrtAjFI/9KiWfvQzcf7PPl1ZYdg03dbgq9vkKrMLfw=
"""

# leaf, size, leaf hash, root, proof, what must come out, name
_INCLUSION = """
0 1 A Y - refused 0/empty-root
0 1 A A - holds 0/happy-path
2 1 A A - refused 0/leafIdx-XOR-@2
1 1 A A - refused 0/leafIdx-plus-@1
18446744073709551615 1 A A - refused 0/leafIdx-sub-@1
0 1 A A I refused 0/preceding-garbage
0 1 A A A refused 0/preceding-root
0 1 A b - refused 0/random-root
0 1 A A I refused 0/trailing-garbage
0 1 A A A refused 0/trailing-root
0 0 A A - refused 0/treeSize-div-@2
0 2 A A - refused 0/treeSize-mul-@2
0 1 c A - refused 0/wrong-leaf
0 8 A Y CDE refused 1/empty-root
0 8 A B CDE holds 1/happy-path
0 8 A B CbDE refused 1/inserted-component
2 8 A B CDE refused 1/leafIdx-XOR-@2
1 8 A B CDE refused 1/leafIdx-plus-@1
18446744073709551615 8 A B CDE refused 1/leafIdx-sub-@1
0 8 A B dDE refused 1/modified-proof[0]-bit-@3
0 8 A B CeE refused 1/modified-proof[1]-bit-@3
0 8 A B CDf refused 1/modified-proof[2]-bit-@3
0 8 A B ICDE refused 1/preceding-garbage
0 8 A B BCDE refused 1/preceding-root
0 8 A b CDE refused 1/random-root
0 8 A B CD refused 1/removed-component
0 8 A B CDEI refused 1/trailing-garbage
0 8 A B CDEB refused 1/trailing-root
0 4 A B CDE refused 1/treeSize-div-@2
0 16 A B CDE refused 1/treeSize-mul-@2
0 8 c B CDE refused 1/wrong-leaf
5 8 g Y TMN refused 2/empty-root
5 8 g B TMN holds 2/happy-path
5 8 g B TbMN refused 2/inserted-component
7 8 g B TMN refused 2/leafIdx-XOR-@2
6 8 g B TMN refused 2/leafIdx-plus-@1
4 8 g B TMN refused 2/leafIdx-sub-@1
5 8 g B hMN refused 2/modified-proof[0]-bit-@3
5 8 g B TiN refused 2/modified-proof[1]-bit-@3
5 8 g B TMj refused 2/modified-proof[2]-bit-@3
5 8 g B ITMN refused 2/preceding-garbage
5 8 g B BTMN refused 2/preceding-root
5 8 g b TMN refused 2/random-root
5 8 g B TM refused 2/removed-component
5 8 g B TMNI refused 2/trailing-garbage
5 8 g B TMNB refused 2/trailing-root
5 4 g B TMN refused 2/treeSize-div-@2
5 16 g B TMN refused 2/treeSize-mul-@2
5 8 c B TMN refused 2/wrong-leaf
2 3 k Y R refused 3/empty-root
2 3 k l R holds 3/happy-path
0 3 k l R refused 3/leafIdx-XOR-@2
3 3 k l R refused 3/leafIdx-plus-@1
1 3 k l R refused 3/leafIdx-sub-@1
2 3 k l m refused 3/modified-proof[0]-bit-@3
2 3 k l IR refused 3/preceding-garbage
2 3 k l lR refused 3/preceding-root
2 3 k b R refused 3/random-root
2 3 k l - refused 3/removed-component
2 3 k l RI refused 3/trailing-garbage
2 3 k l Rl refused 3/trailing-root
2 1 k l R refused 3/treeSize-div-@2
2 6 k l R refused 3/treeSize-mul-@2
2 3 c l R refused 3/wrong-leaf
1 5 C Y ADT refused 4/empty-root
1 5 C S ADT holds 4/happy-path
1 5 C S AbDT refused 4/inserted-component
3 5 C S ADT refused 4/leafIdx-XOR-@2
2 5 C S ADT refused 4/leafIdx-plus-@1
0 5 C S ADT refused 4/leafIdx-sub-@1
1 5 C S nDT refused 4/modified-proof[0]-bit-@3
1 5 C S AeT refused 4/modified-proof[1]-bit-@3
1 5 C S ADh refused 4/modified-proof[2]-bit-@3
1 5 C S IADT refused 4/preceding-garbage
1 5 C S SADT refused 4/preceding-root
1 5 C b ADT refused 4/random-root
1 5 C S AD refused 4/removed-component
1 5 C S ADTI refused 4/trailing-garbage
1 5 C S ADTS refused 4/trailing-root
1 2 C S ADT refused 4/treeSize-div-@2
1 10 C S ADT refused 4/treeSize-mul-@2
1 5 c S ADT refused 4/wrong-leaf
0 0 b Y - refused additional/0/empty-root-and-random-leaf
0 0 I Y - refused additional/0/empty-root
0 0 b I - refused additional/0/random-leaf
0 1 b Y - refused additional/1/empty-root-and-random-leaf
0 1 I Y - refused additional/1/empty-root
0 1 b I - refused additional/1/random-leaf
1 0 b Y - refused additional/2/empty-root-and-random-leaf
1 0 I Y - refused additional/2/empty-root
1 0 b I - refused additional/2/random-leaf
2 1 b Y - refused additional/3/empty-root-and-random-leaf
2 1 I Y - refused additional/3/empty-root
2 1 b I - refused additional/3/random-leaf
0 1 I o - refused single-entry/empty-leaf
0 1 I I - refused single-entry/empty-root-and-leaf
0 1 o I - refused single-entry/empty-root
0 1 o o - holds single-entry/matching-root-and-leaf
"""

# old size, new size, old root, new root, proof, what must come out, name
_CONSISTENCY = """
1 1 A A - holds 0/happy-path
1 8 A B - refused 1/empty-proof
1 8 A B CDE holds 1/happy-path
1 8 A B FDE refused 1/modified-proof@0-bit-@4
1 8 A B CGE refused 1/modified-proof@1-bit-@4
1 8 A B CDH refused 1/modified-proof@2-bit-@4
1 8 A B ICDE refused 1/preceding-garbage
1 8 A B CCDE refused 1/preceding-proof-@0
1 8 A B ACDE refused 1/preceding-root1
1 8 A B BCDE refused 1/preceding-root2
3 8 A B CDE refused 1/size1-XOR-@2
2 8 A B CDE refused 1/size1-plus-@1
0 8 A B CDE refused 1/size1-sub-@1
1 4 A B CDE refused 1/size2-div-@2
1 16 A B CDE refused 1/size2-mul-@2
1 8 B A CDE refused 1/swapped-roots
1 8 A B CDEI refused 1/trailing-garbage
1 8 A B CDEA refused 1/trailing-root1
1 8 A B CDEB refused 1/trailing-root2
1 8 A B CD refused 1/truncated-proof
1 8 J B CDE refused 1/wrong-root1
1 8 A J CDE refused 1/wrong-root2
6 8 K B - refused 2/empty-proof
6 8 K B LMN holds 2/happy-path
6 8 K B OMN refused 2/modified-proof@0-bit-@4
6 8 K B LPN refused 2/modified-proof@1-bit-@4
6 8 K B LMQ refused 2/modified-proof@2-bit-@4
6 8 K B ILMN refused 2/preceding-garbage
6 8 K B LLMN refused 2/preceding-proof-@0
6 8 K B KLMN refused 2/preceding-root1
6 8 K B BLMN refused 2/preceding-root2
4 8 K B LMN refused 2/size1-XOR-@2
7 8 K B LMN refused 2/size1-plus-@1
5 8 K B LMN refused 2/size1-sub-@1
6 4 K B LMN refused 2/size2-div-@2
6 16 K B LMN refused 2/size2-mul-@2
6 8 B K LMN refused 2/swapped-roots
6 8 K B LMNI refused 2/trailing-garbage
6 8 K B LMNK refused 2/trailing-root1
6 8 K B LMNB refused 2/trailing-root2
6 8 K B LM refused 2/truncated-proof
6 8 J B LMN refused 2/wrong-root1
6 8 K J LMN refused 2/wrong-root2
2 5 R S - refused 3/empty-proof
2 5 R S DT holds 3/happy-path
2 5 R S GT refused 3/modified-proof@0-bit-@4
2 5 R S DU refused 3/modified-proof@1-bit-@4
2 5 R S IDT refused 3/preceding-garbage
2 5 R S DDT refused 3/preceding-proof-@0
2 5 R S RDT refused 3/preceding-root1
2 5 R S SDT refused 3/preceding-root2
0 5 R S DT refused 3/size1-XOR-@2
3 5 R S DT refused 3/size1-plus-@1
1 5 R S DT refused 3/size1-sub-@1
2 2 R S DT refused 3/size2-div-@2
2 10 R S DT refused 3/size2-mul-@2
2 5 S R DT refused 3/swapped-roots
2 5 R S DTI refused 3/trailing-garbage
2 5 R S DTR refused 3/trailing-root1
2 5 R S DTS refused 3/trailing-root2
2 5 R S D refused 3/truncated-proof
2 5 J S DT refused 3/wrong-root1
2 5 R J DT refused 3/wrong-root2
6 7 K V - refused 4/empty-proof
6 7 K V LWN holds 4/happy-path
6 7 K V OWN refused 4/modified-proof@0-bit-@4
6 7 K V LXN refused 4/modified-proof@1-bit-@4
6 7 K V LWQ refused 4/modified-proof@2-bit-@4
6 7 K V ILWN refused 4/preceding-garbage
6 7 K V LLWN refused 4/preceding-proof-@0
6 7 K V KLWN refused 4/preceding-root1
6 7 K V VLWN refused 4/preceding-root2
4 7 K V LWN refused 4/size1-XOR-@2
7 7 K V LWN refused 4/size1-plus-@1
5 7 K V LWN refused 4/size1-sub-@1
6 3 K V LWN refused 4/size2-div-@2
6 14 K V LWN refused 4/size2-mul-@2
6 7 V K LWN refused 4/swapped-roots
6 7 K V LWNI refused 4/trailing-garbage
6 7 K V LWNK refused 4/trailing-root1
6 7 K V LWNV refused 4/trailing-root2
6 7 K V LW refused 4/truncated-proof
6 7 J V LWN refused 4/wrong-root1
6 7 K J LWN refused 4/wrong-root2
0 1 Y Y Y refused additional/consistency-check-on-empty-tree-size1-is-zero-is-useless
0 0 Y Z - refused additional/roots-do-not-match-and-sizes-are-zero
1 1 Y Z - refused additional/roots-do-not-not-match-and-sizes-are-one
2 1 a Z - refused additional/size1-is-greater-than-size2-again
1 0 a Z - refused additional/size1-is-greater-than-size2
0 1 a Z - refused additional/size1-is-zero-and-does-not-equal-size2
0 1 Y Z - refused additional/size1-is-zero-and-size2-is-not-zero
1 1 Z Z - holds additional/sizes-are-equal-one-and-proof-is-empty
1 1 a Z - refused additional/sizes-are-equal-one-but-roots-are-not
0 0 a a - refused additional/sizes-are-equal-zero-and-proof-is-empty
0 0 a Z - refused additional/sizes-are-equal-zero-but-roots-are-not
1 2 a Z - refused additional/sizes-do-not-watch-and-proof-is-empty
1 1 Y Y Y refused additional/sizes-match-but-proof-is-not-empty-and-sizes-are-one
0 0 Y Y Y refused additional/sizes-match-but-proof-is-not-empty-and-sizes-are-zero
"""


def _whole(value: bytes) -> bytes:
    """Stretch the placeholders among the hashes, so that none but the missing one is refused for its length alone."""
    return value if len(value) in (0, 32) else sha256(b"placeholder " + value).digest()


def _table(text: str) -> list[tuple[int, int, bytes, bytes, list[bytes], bool, str]]:
    hashes = {line[0]: _whole(base64.b64decode(line[2:])) for line in _HASHES.split("\n")[1:-1]}
    rows = []
    for line in text.split("\n")[1:-1]:
        first, second, one, other, proof, outcome, name = line.split(" ", 6)
        path = [hashes[each] for each in proof.strip("-")]
        rows.append((int(first), int(second), hashes[one], hashes[other], path, outcome == "holds", name))
    return rows


INCLUSION = _table(_INCLUSION)
CONSISTENCY = _table(_CONSISTENCY)

# The test tree of RFC 6962's implementations (certificate-transparency, trillian; in transparency-dev/merkle
# `testonly/constants.go`): its leaves, and its root at each size from 0 to 8.
LEAVES = [
    bytes.fromhex(each)
    for each in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    bytes.fromhex(each)
    for each in (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    )
]
