/*
 * Weights that ship in an archive of the program's own, encrypted.
 *
 *     pak_file --pack MODEL PAK      makes one
 *     pak_file PAK [QUESTION]        answers from it
 *
 * Ossicle opens no file here. It asks a function of the program for a range of bytes, wherever they come from, and puts them
 * where the program says; ossicle_model_new then takes them like those of a mapped file. The cipher is a toy: it shows that
 * bytes can be changed on their way, range by range, and keeps nothing secret.
 */
#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One byte of the key stream. It depends on the place alone, so that any range can be read by itself. */
static unsigned char key_at(uint64_t place) {
    place = (place + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    return (unsigned char)(place >> 56);
}

static void encrypt(unsigned char *bytes, uint64_t place, size_t size) {
    for (size_t index = 0; index < size; index++)
        bytes[index] ^= key_at(place + index);
}

/* The read callback: 0, or anything else if it cannot. */
static int32_t read_pak(void *data, uint64_t offset, void *buffer, size_t size) {
    FILE *pak = data;
    if (fseek(pak, (long)offset, SEEK_SET) != 0 || fread(buffer, 1, size, pak) != size)
        return -1;
    encrypt(buffer, offset, size);
    return 0;
}

/* The progress callback: 0, or anything else to stop. A game would move a bar. */
static int32_t show_progress(void *data, uint64_t done, uint64_t total) {
    (void)data;
    fprintf(stderr, "\r%3d %%", (int)(done * 100 / total));
    return 0;
}

static int pack(const char *model, const char *pak) {
    FILE *from = fopen(model, "rb"), *to = fopen(pak, "wb");
    unsigned char bytes[4096];
    uint64_t place = 0;
    if (from == NULL || to == NULL)
        return perror("pak_file"), 1;
    for (size_t size; (size = fread(bytes, 1, sizeof bytes, from)) > 0; place += size) {
        encrypt(bytes, place, size);
        if (fwrite(bytes, 1, size, to) != size)
            return perror(pak), 1;
    }
    fclose(from);
    return fclose(to) != 0;
}

static ossicle_error error = {.struct_size = sizeof error};

/* All went well, or the program ends. */
static void demand(int32_t status) {
    if (status < 0) {
        fprintf(stderr, "%s\n", error.text_size > 0 ? error.text : ossicle_status_text(status));
        exit(1);
    }
}

static void *memory(ossicle_layout layout) {
    void *region = NULL;
    demand(ossicle_memory_new(layout, &region));
    return region;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--pack") == 0)
        return pack(argv[2], argv[3]);
    if (argc < 2)
        return fprintf(stderr, "pak_file [--pack MODEL] PAK\n"), 1;
    const char *question = argc > 2 ? argv[2] : "What is in the box?";
    FILE *pak = fopen(argv[1], "rb");
    if (pak == NULL || fseek(pak, 0, SEEK_END) != 0)
        return perror(argv[1]), 1;

    const ossicle_source source = {.struct_size = sizeof source,
                                   .size = (uint64_t)ftell(pak),
                                   .data = pak,
                                   .read = read_pak,
                                   .progress = show_progress};
    ossicle_layout weights = {(size_t)source.size, 64}, layout[5];
    void *buffer = memory(weights), *region[5];
    ossicle_bytes file;
    demand(ossicle_file_read(&source, buffer, weights.size, &file, &error));
    fclose(pak);
    fprintf(stderr, "\n");

    /* From here on as with any other bytes: static_arena.c explains the chain. */
    ossicle_model *model;
    const ossicle_model_config files = {.struct_size = sizeof files, .file_count = 1, .files = &file};
    demand(ossicle_model_layout(&files, &layout[0], &error));
    demand(ossicle_model_new(region[0] = memory(layout[0]), layout[0].size, &files, &model, &error));
    ossicle_tokenizer *tokenizer;
    const ossicle_tokenizer_config vocabulary = {.struct_size = sizeof vocabulary, .model = model};
    demand(ossicle_tokenizer_layout(&vocabulary, &layout[1], &error));
    demand(ossicle_tokenizer_new(region[1] = memory(layout[1]), layout[1].size, &vocabulary, &tokenizer, &error));
    ossicle_session *session;
    demand(ossicle_session_layout(model, NULL, &layout[2], &error));
    demand(ossicle_session_new(model, region[2] = memory(layout[2]), layout[2].size, NULL, &session, &error));
    ossicle_generation *generation;
    demand(ossicle_generation_layout(session, tokenizer, NULL, &layout[3], &error));
    demand(ossicle_generation_new(session, tokenizer, region[3] = memory(layout[3]), layout[3].size, NULL, &generation,
                                  &error));
    const ossicle_message message = {.struct_size = sizeof message, .text = {question, strlen(question)}};
    demand(ossicle_generation_append(generation, &message, 1, &error));
    ossicle_turn *turn;
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .max_tokens = 60,
                                        .reasoning = OSSICLE_REASONING_LIMITED,
                                        .reasoning_tokens = 20};
    demand(ossicle_turn_layout(&answer, &layout[4], &error));
    demand(ossicle_turn_new(generation, region[4] = memory(layout[4]), layout[4].size, &answer, &turn, &error));

    const ossicle_event *event;
    int32_t status;
    while ((status = ossicle_turn_next(turn, NULL, &event, &error)) == OSSICLE_MORE)
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);
    demand(status);
    for (int index = 0; index < 5; index++)
        demand(ossicle_memory_free(region[index], layout[index]));
    demand(ossicle_memory_free(buffer, weights));
    return 0;
}
