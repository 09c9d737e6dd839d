/*
 * For Windows on x86-64: every kernel set gives the same logits, and a call that computes leaves alone what the calling
 * convention says is the caller's. win64 MODEL.
 */
#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ossicle_error error = {.struct_size = sizeof error};

#define CHECK(condition)                                                                                  \
    do {                                                                                                  \
        if (!(condition))                                                                                 \
            exit((fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, error.text), 1));    \
    } while (0)

enum { ARENA_SIZE = 64 << 20, TOKENS = 40 };
static _Alignas(64) unsigned char arena[ARENA_SIZE];
static size_t used;

void ossicle_panic(const char *text, size_t size) {
    fwrite(text, 1, size, stderr);
    exit(101);
}

static void *take(ossicle_layout layout) {
    CHECK(layout.size <= sizeof arena - used);
    void *region = arena + used;
    used += layout.size;
    return region;
}

/* xmm6 to xmm15, rbx, rbp, rdi, rsi, r12 to r15: Microsoft, "x64 calling convention", section "Callee saved registers". */
typedef struct registers {
    unsigned char vectors[10][16];
    uint64_t integers[8];
} registers;

/* ossicle_session_step with these registers; they get what it leaves in them. */
int32_t step_with(ossicle_session *session, const ossicle_host *host, uint64_t budget, ossicle_error *step_error,
                  registers *registers);
__asm__(".globl step_with\nstep_with:\n"
        "push %rbx\npush %rbp\npush %rdi\npush %rsi\npush %r12\npush %r13\npush %r14\npush %r15\n"
        /* Room for the callee's parameters, and for the caller's vectors. */
        "sub $216, %rsp\n"
        "movups %xmm6, 48(%rsp)\nmovups %xmm7, 64(%rsp)\nmovups %xmm8, 80(%rsp)\nmovups %xmm9, 96(%rsp)\n"
        "movups %xmm10, 112(%rsp)\nmovups %xmm11, 128(%rsp)\nmovups %xmm12, 144(%rsp)\nmovups %xmm13, 160(%rsp)\n"
        "movups %xmm14, 176(%rsp)\nmovups %xmm15, 192(%rsp)\n"
        "mov 320(%rsp), %rax\n"
        "movups 0(%rax), %xmm6\nmovups 16(%rax), %xmm7\nmovups 32(%rax), %xmm8\nmovups 48(%rax), %xmm9\n"
        "movups 64(%rax), %xmm10\nmovups 80(%rax), %xmm11\nmovups 96(%rax), %xmm12\nmovups 112(%rax), %xmm13\n"
        "movups 128(%rax), %xmm14\nmovups 144(%rax), %xmm15\n"
        "mov 160(%rax), %rbx\nmov 168(%rax), %rbp\nmov 176(%rax), %rdi\nmov 184(%rax), %rsi\n"
        "mov 192(%rax), %r12\nmov 200(%rax), %r13\nmov 208(%rax), %r14\nmov 216(%rax), %r15\n"
        "call ossicle_session_step\n"
        "mov 320(%rsp), %r10\n"
        "movups %xmm6, 0(%r10)\nmovups %xmm7, 16(%r10)\nmovups %xmm8, 32(%r10)\nmovups %xmm9, 48(%r10)\n"
        "movups %xmm10, 64(%r10)\nmovups %xmm11, 80(%r10)\nmovups %xmm12, 96(%r10)\nmovups %xmm13, 112(%r10)\n"
        "movups %xmm14, 128(%r10)\nmovups %xmm15, 144(%r10)\n"
        "mov %rbx, 160(%r10)\nmov %rbp, 168(%r10)\nmov %rdi, 176(%r10)\nmov %rsi, 184(%r10)\n"
        "mov %r12, 192(%r10)\nmov %r13, 200(%r10)\nmov %r14, 208(%r10)\nmov %r15, 216(%r10)\n"
        "movups 48(%rsp), %xmm6\nmovups 64(%rsp), %xmm7\nmovups 80(%rsp), %xmm8\nmovups 96(%rsp), %xmm9\n"
        "movups 112(%rsp), %xmm10\nmovups 128(%rsp), %xmm11\nmovups 144(%rsp), %xmm12\nmovups 160(%rsp), %xmm13\n"
        "movups 176(%rsp), %xmm14\nmovups 192(%rsp), %xmm15\n"
        "add $216, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rsi\npop %rdi\npop %rbp\npop %rbx\nret\n");

/* The logits of some tokens with one kernel set, as a number. */
static uint64_t logits_with(const ossicle_model *model, ossicle_text kernels) {
    const size_t before = used;
    ossicle_session *session;
    ossicle_layout layout;
    const ossicle_session_config config = {.struct_size = sizeof config,
                                           .context_tokens = TOKENS,
                                           .batch_tokens = TOKENS,
                                           .logits_rows = TOKENS,
                                           .rewind_tokens = TOKENS,
                                           .kernels = kernels};
    CHECK(ossicle_session_layout(model, &config, &layout, &error) == OSSICLE_OK);
    CHECK(ossicle_session_new(model, take(layout), layout.size, &config, &session, &error) == OSSICLE_OK);
    uint32_t tokens[TOKENS];
    for (uint32_t t = 0; t < TOKENS; t++)
        tokens[t] = 7 * t;
    CHECK(ossicle_session_start(session, tokens, TOKENS, OSSICLE_LOGITS_ALL, &error) == OSSICLE_OK);

    registers given, left;
    for (size_t i = 0; i < sizeof given; i++)
        ((unsigned char *)&given)[i] = (unsigned char)(37 * i + 11);
    int32_t status;
    do {
        left = given;
        status = step_with(session, NULL, 1, &error, &left);
        CHECK(memcmp(&left, &given, sizeof left) == 0);
    } while (status == OSSICLE_MORE);
    CHECK(status == OSSICLE_OK);

    const float *logits;
    size_t count;
    CHECK(ossicle_session_logits(session, &logits, &count) == OSSICLE_OK && count > TOKENS);
    /* FNV-1a (G. Fowler, L. Noll and P. Vo) of all bits. */
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < count * sizeof *logits; i++)
        hash = (hash ^ ((const unsigned char *)logits)[i]) * 0x100000001b3;
    used = before;
    return hash;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    FILE *stream = fopen(argv[1], "rb");
    CHECK(stream != NULL);
    ossicle_bytes file = {arena, fread(arena, 1, sizeof arena, stream)};
    fclose(stream);
    used = (file.size + 63) / 64 * 64;
    ossicle_model *model;
    ossicle_layout layout;
    const ossicle_model_config config = {.struct_size = sizeof config, .file_count = 1, .files = &file};
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_OK);
    CHECK(ossicle_model_new(take(layout), layout.size, &config, &model, &error) == OSSICLE_OK);
    const uint64_t expected = logits_with(model, (ossicle_text){"portable", 8});
    ossicle_text name;
    for (uint32_t set = 0; ossicle_kernels_name(set, &name) == OSSICLE_OK && name.size > 0; set++) {
        CHECK(logits_with(model, name) == expected);
        printf("%.*s\n", (int)name.size, name.start);
    }
    return 0;
}
