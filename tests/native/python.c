/* A Python interpreter, to be linked with a sanitizer's runtime. */
#include <Python.h>

int main(int argc, char **argv)
{
    return Py_BytesMain(argc, argv);
}
