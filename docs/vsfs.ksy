# made from vsfs/layout.py by docs/make_formats.py; docs/FORMAT.md explains it
meta:
  id: vsfs
  title: VSFS, the very simple file system of OSTEP
  file-extension: img
  license: MIT
  endian: le
doc: |
  An image: five regions, whose places the superblock tells. Blocks of the data region
  mean what the inode says that points to them: open them as directory_block,
  indirect_block, attribute_block or journal_block.
seq:
  - id: superblock
    type: superblock
instances:
  block_size:
    value: superblock.block_size
  inode_bitmap:
    pos: superblock.inode_bitmap_start * block_size
    size: (superblock.data_bitmap_start - superblock.inode_bitmap_start) * block_size
  data_bitmap:
    pos: superblock.data_bitmap_start * block_size
    size: (superblock.inode_table_start - superblock.data_bitmap_start) * block_size
  inodes:
    pos: superblock.inode_table_start * block_size
    type: inode
    repeat: expr
    repeat-expr: superblock.inode_count
  root:
    doc: the first block of the root directory
    pos: inodes[2].direct[0] * block_size
    size: block_size
    type: directory_block
  journal:
    doc: the first block of the journal
    if: inodes[1].direct[0] != 0
    pos: inodes[1].direct[0] * block_size
    size: block_size
    type: journal_block
types:
  directory_block:
    doc: records that fill each sector of 512 bytes exactly
    seq:
      - id: records
        type: record
        repeat: eos
  indirect_block:
    seq:
      - id: pointers
        type: u4
        repeat: eos
  attribute_block:
    seq:
      - id: head
        type: attributes
      - id: list
        size: head.size - head_size
        type: attribute_list
    instances:
      head_size:
        value: 16
  attribute_list:
    seq:
      - id: attributes
        type: attribute
        repeat: eos
  journal_block:
    seq:
      - id: head
        type: journal
      - id: block_numbers
        type: u4
        repeat: expr
        repeat-expr: head.count
  superblock:
    doc: 'the first 512 bytes of block 0'
    seq:
      - id: magic
        size: 4
        type: str
        encoding: UTF-8
        pad-right: 0
        doc: 'the letters "VSFS"'
      - id: version
        type: u4
        doc: 'version of this format: 1'
      - id: feature_compat
        type: u4
        doc: 'features that a reader may ignore'
      - id: feature_incompat
        type: u4
        doc: 'features that a reader must know'
      - id: feature_ro_compat
        type: u4
        doc: 'features that a writer must know'
      - id: block_size
        type: u4
        doc: 'bytes in a block: a power of two, 512 to 65536'
      - id: block_count
        type: u8
        doc: 'blocks in the filesystem, this one included'
      - id: inode_count
        type: u4
        doc: 'inodes in the inode table'
      - id: inode_size
        type: u4
        doc: 'bytes in an inode: 256'
      - id: inode_bitmap_start
        type: u4
        doc: 'first block of the inode bitmap'
      - id: data_bitmap_start
        type: u4
        doc: 'first block of the data bitmap'
      - id: inode_table_start
        type: u4
        doc: 'first block of the inode table'
      - id: data_start
        type: u4
        doc: 'first block of the data region'
      - id: free_block_count
        type: u8
        doc: 'data blocks whose bit is 0'
      - id: free_inode_count
        type: u4
        doc: 'inodes whose bit is 0'
      - id: state
        type: u4
        enum: state
        doc: '1 clean, 2 mounted (or not cleanly unmounted)'
      - id: uuid
        size: 16
        doc: 'identity of the filesystem, in RFC 4122 byte order'
      - id: label
        size: 32
        type: str
        encoding: UTF-8
        pad-right: 0
        doc: 'name given by its owner, UTF-8, zero-padded'
      - id: created_ns
        type: s8
        doc: 'when it was made, ns since 1970 UTC'
      - id: mounted_ns
        type: s8
        doc: 'when it was last mounted for writing, ns'
      - id: written_ns
        type: s8
        doc: 'when the superblock was last written, ns'
      - id: checked_ns
        type: s8
        doc: 'when it was last checked, ns'
      - id: mount_count
        type: u4
        doc: 'times it was mounted for writing'
      - id: reserved
        size: 352
        doc: 'zero'
      - id: checksum
        type: u4
        doc: 'CRC-32 of the 508 bytes before it'
  inode:
    doc: 'inode i: byte i*256 of the inode table'
    seq:
      - id: mode
        type: u4
        doc: 'file type and permissions, as st_mode'
      - id: nlink
        type: u4
        doc: 'directory entries that name it; 0 when it is free'
      - id: uid
        type: u4
        doc: 'owner'
      - id: gid
        type: u4
        doc: 'group'
      - id: size
        type: u8
        doc: 'bytes in the file'
      - id: blocks
        type: u8
        doc: 'blocks it owns: data, indirect and attribute'
      - id: atime_ns
        type: s8
        doc: 'last access, ns since 1970 UTC'
      - id: mtime_ns
        type: s8
        doc: 'last change of the contents, ns'
      - id: ctime_ns
        type: s8
        doc: 'last change of the inode, ns'
      - id: btime_ns
        type: s8
        doc: 'birth, ns'
      - id: flags
        type: u4
        doc: 'none defined: zero'
      - id: generation
        type: u4
        doc: 'times this inode number was given out'
      - id: device
        type: u4
        doc: 'device number of a character or block device'
      - id: epochs
        type: s1
        repeat: expr
        repeat-expr: 4
        doc: 'for each of the four times: multiples of 2^64 ns to add'
      - id: direct
        type: u4
        repeat: expr
        repeat-expr: 12
        doc: 'blocks of the file; 0 is a hole'
      - id: single_indirect
        type: u4
        doc: 'a block of pointers to blocks of the file'
      - id: double_indirect
        type: u4
        doc: 'a block of pointers to blocks of pointers'
      - id: triple_indirect
        type: u4
        doc: 'the same, one level deeper'
      - id: attribute_block
        type: u4
        doc: 'block of extended attributes, or 0'
      - id: inline
        size: 108
        doc: 'target of a short symbolic link, zero-padded'
      - id: checksum
        type: u4
        doc: 'CRC-32 of the inode number (32 bits) and the 252 bytes before it'
  attributes:
    doc: 'the start of an inode''s attribute block'
    seq:
      - id: magic
        size: 4
        type: str
        encoding: UTF-8
        pad-right: 0
        doc: 'the letters "ATTR"'
      - id: inode
        type: u4
        doc: 'the inode whose attributes these are'
      - id: size
        type: u4
        doc: 'bytes in use, these 16 included'
      - id: checksum
        type: u4
        doc: 'CRC-32 of the bytes in use, with 0 for this field'
  attribute:
    doc: 'one behind the other in an attribute block'
    seq:
      - id: name_length
        type: u1
        doc: 'bytes in the name, 1 to 255'
      - id: reserved
        type: u1
        doc: 'zero'
      - id: value_length
        type: u2
        doc: 'bytes in the value'
      - id: name
        size: name_length
        doc: 'with its namespace, such as user.comment; no NUL'
      - id: value
        size: value_length
        doc: 'any bytes'
      - id: padding
        size: (4 - (name_length + value_length) % 4) % 4
        doc: up to a multiple of 4
  record:
    doc: 'a name: in the blocks of a directory'
    seq:
      - id: inode
        type: u4
        doc: 'inode number; 0 marks a free record'
      - id: record_length
        type: u2
        doc: 'bytes to the next record, a multiple of 4'
      - id: name_length
        type: u1
        doc: 'bytes in the name'
      - id: file_type
        type: u1
        enum: file_type
        doc: 'what the inode is, see the table of types'
      - id: name
        size: name_length
        doc: '1 to 255 bytes, no ''/'' and no NUL'
      - id: slack
        size: record_length - 8 - name_length
        doc: room for another record; a removed name may still be read here
  journal:
    doc: 'the start of the journal''s first block'
    seq:
      - id: magic
        size: 4
        type: str
        encoding: UTF-8
        pad-right: 0
        doc: 'the letters "JRNL"'
      - id: count
        type: u4
        doc: 'blocks of the transaction that waits; 0: none does'
      - id: sequence
        type: u8
        doc: 'number of the transaction, one more for each'
      - id: checksum
        type: u4
        doc: 'CRC-32 of header (0 here), block numbers, log blocks backwards'
enums:
  file_type:
    0: none
    1: regular_file
    2: directory
    3: character_device
    4: block_device
    5: fifo
    6: socket
    7: symbolic_link
  state:
    1: clean
    2: mounted
