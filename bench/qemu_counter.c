/*
 * A plugin for QEMU 7.2 that counts the instructions between a call of ossicle_counted and one of ossicle_count_ends, and writes
 * the sum to standard output, in front of what the program writes next. Debian has QEMU with plugins, but not the header that
 * declares what they call.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum flags { NO_REGISTERS };

void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, void (*translated)(uint64_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*executed)(unsigned cpu, void *data), enum flags flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *instruction);

int qemu_plugin_version = 1;

static uint64_t count;
static int counting;

static void begin(unsigned cpu, void *data) {
    (void)cpu, (void)data;
    if (!counting)
        count = 0;
    counting = 1;
}

static void add(unsigned cpu, void *data) {
    (void)cpu;
    count += (uintptr_t)data;
}

static void end(unsigned cpu, void *data) {
    (void)cpu, (void)data;
    if (counting)
        dprintf(1, "%12llu ", (unsigned long long)count);
    counting = 0;
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
    (void)id;
    const char *function = qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(block, 0));
    if (function != NULL && strcmp(function, "ossicle_counted") == 0)
        qemu_plugin_register_vcpu_tb_exec_cb(block, begin, NO_REGISTERS, NULL);
    if (function != NULL && strcmp(function, "ossicle_count_ends") == 0)
        qemu_plugin_register_vcpu_tb_exec_cb(block, end, NO_REGISTERS, NULL);
    else
        qemu_plugin_register_vcpu_tb_exec_cb(block, add, NO_REGISTERS, (void *)qemu_plugin_tb_n_insns(block));
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info, (void)argc, (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
