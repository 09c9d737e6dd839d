/*
 * A program without a C library, for Linux on x86-64: one answer in static memory, with nothing but five memory functions.
 * The model is part of the program: compile with -DMODEL='"path"'. Exits with 0 if all went well.
 */
#include <ossicle.h>

void *memcpy(void *to, const void *from, size_t size) {
    unsigned char *out = to;
    const unsigned char *in = from;
    while (size--)
        *out++ = *in++;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    unsigned char *out = to;
    const unsigned char *in = from;
    if ((uintptr_t)out < (uintptr_t)in)
        return memcpy(to, from, size);
    while (size--)
        out[size] = in[size];
    return to;
}

void *memset(void *to, int value, size_t size) {
    unsigned char *out = to;
    while (size--)
        *out++ = (unsigned char)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t size) {
    const unsigned char *left = a, *right = b;
    for (size_t index = 0; index < size; index++)
        if (left[index] != right[index])
            return left[index] < right[index] ? -1 : 1;
    return 0;
}

int bcmp(const void *a, const void *b, size_t size) {
    return memcmp(a, b, size);
}

static long system_call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static void print(const char *text, size_t size) {
    system_call(1, 1, (long)(uintptr_t)text, (long)size);
}

static void leave(int code) {
    for (;;)
        system_call(60, code, 0, 0);
}

void ossicle_panic(const char *text, size_t size) {
    print(text, size);
    leave(101);
}

__asm__(".section .rodata\n.balign 64\nmodel_start:\n.incbin \"" MODEL "\"\nmodel_end:\n.previous\n");
extern const char model_start[], model_end[];

static _Alignas(64) unsigned char arena[64 << 20];
static size_t used;

static void *region_of(ossicle_layout layout) {
    void *region = arena + used;
    if (layout.size > sizeof arena - used)
        leave(2);
    used += layout.size;
    return region;
}

static ossicle_error error = {.struct_size = sizeof error};

static void demand(int32_t status, int code) {
    if (status < 0) {
        print(error.text, error.text_size);
        leave(code);
    }
}

static void answer(void) {
    ossicle_layout layout;
    ossicle_bytes file = {model_start, (size_t)(model_end - model_start)};
    ossicle_model *model;
    ossicle_model_config model_config = {.struct_size = sizeof model_config, .file_count = 1, .files = &file};
    demand(ossicle_model_layout(&model_config, &layout, &error), 3);
    demand(ossicle_model_new(region_of(layout), layout.size, &model_config, &model, &error), 4);
    ossicle_tokenizer *tokenizer;
    ossicle_tokenizer_config tokenizer_config = {.struct_size = sizeof tokenizer_config, .model = model};
    demand(ossicle_tokenizer_layout(&tokenizer_config, &layout, &error), 5);
    demand(ossicle_tokenizer_new(region_of(layout), layout.size, &tokenizer_config, &tokenizer, &error), 6);
    ossicle_session *session;
    ossicle_session_config session_config = {.struct_size = sizeof session_config, .context_tokens = 400};
    demand(ossicle_session_layout(model, &session_config, &layout, &error), 7);
    demand(ossicle_session_new(model, region_of(layout), layout.size, &session_config, &session, &error), 8);
    ossicle_generation *generation;
    demand(ossicle_generation_layout(session, tokenizer, NULL, &layout, &error), 9);
    demand(ossicle_generation_new(session, tokenizer, region_of(layout), layout.size, NULL, &generation, &error), 10);
    ossicle_message message = {.struct_size = sizeof message, .text = {"Hello", 5}};
    demand(ossicle_generation_append(generation, &message, 1, &error), 11);
    ossicle_turn *turn;
    ossicle_turn_config turn_config = {.struct_size = sizeof turn_config, .max_tokens = 20};
    demand(ossicle_turn_layout(&turn_config, &layout, &error), 12);
    demand(ossicle_turn_new(generation, region_of(layout), layout.size, &turn_config, &turn, &error), 13);
    const ossicle_event *event = NULL;
    int32_t status;
    while ((status = ossicle_turn_next(turn, NULL, &event, &error)) == OSSICLE_MORE)
        if (event->kind == OSSICLE_EVENT_DELTA)
            print(event->text.start, event->text.size);
    demand(status, 14);
    leave(event != NULL && event->kind == OSSICLE_EVENT_STOP && event->output_tokens > 0 ? 0 : 15);
}

/* The kernel enters with a stack that is aligned as after a call. */
void _start(void);
__asm__(".globl _start\n_start:\n    xor %ebp, %ebp\n    and $-16, %rsp\n    call begin\n");
void begin(void);
void begin(void) {
    answer();
}
