from servekit import cgroup


def written(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_a_group_nothing_is_known(tmp_path):
    assert cgroup.memory_limit_bytes(tmp_path) is None
    assert cgroup.memory_bytes(tmp_path) is None
    assert cgroup.processor(tmp_path) is None


def test_version_2_takes_the_least_limit_up_to_the_root(tmp_path):
    root = written(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container\n",
            "sys/fs/cgroup/pod/container/memory.max": "max\n",
            "sys/fs/cgroup/pod/container/memory.current": "1000\n",
            "sys/fs/cgroup/pod/memory.max": "5000\n",
            "sys/fs/cgroup/pod/container/cpu.stat": "nr_periods 8\nnr_throttled 2\nthrottled_usec 500000\n",
        },
    )
    assert cgroup.memory_limit_bytes(root) == 5000
    assert cgroup.memory_bytes(root) == 1000
    assert cgroup.processor(root) == cgroup.Processor(8, 2, 0.5)


def test_version_1_knows_no_limit_by_a_huge_number(tmp_path):
    root = written(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/a\n4:memory:/a\n0::/\n",
            "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "77\n",
            "sys/fs/cgroup/cpu/a/cpu.stat": "nr_periods 4\nnr_throttled 1\nthrottled_time 250000000\n",
        },
    )
    assert cgroup.memory_limit_bytes(root) is None
    assert cgroup.memory_bytes(root) == 77
    assert cgroup.processor(root) == cgroup.Processor(4, 1, 0.25)


def test_a_path_of_the_host_falls_back_to_what_is_mounted(tmp_path):
    root = written(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/kubepods/burstable/pod7\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n",
        },
    )
    assert cgroup.memory_limit_bytes(root) == 4096
