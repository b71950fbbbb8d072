package android.content.res;

import android.util.DisplayMetrics;
import java.lang.reflect.Field;

/** Fake: the text of a resource is its name. */
public class Resources {
    public static String name(int id) {
        try {
            for (Field field : Class.forName("org.retinaface.demo.R$string").getFields()) {
                if (field.getInt(null) == id) return field.getName();
            }
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
        throw new IllegalArgumentException("no text " + id);
    }

    public String getQuantityString(int id, int count, Object... values) {
        return count + " faces";
    }

    public DisplayMetrics getDisplayMetrics() {
        DisplayMetrics metrics = new DisplayMetrics();
        metrics.density = 1;
        return metrics;
    }
}
